"""`predawn train`: from a log of requests to a snapshot that `predawn serve` can load."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from predawn.server.cli.options import Json, Seed
from predawn.server.cli.output import Output, progress
from predawn.server.cli.train_log import (
    FromLog,
    LoggedRanker,
    LogOptions,
    Window,
    WithoutEventOption,
    train_from_log,
)

if TYPE_CHECKING:
    from predawn.server.models.training import TrainReport


TracePath: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="Log to learn from: JSON lines (gzip or not), Parquet, KuaiRand's "
        "separated text or a log of plain events; see `predawn workload`."
    ),
]
Out: TypeAlias = Annotated[
    Path,
    typer.Option(help="Directory of snapshots; a new version is added. Example: --out models"),
]
Holdout: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.9,
        help="Share of the latest rows that is not learned from but "
        "measured on. Example: --holdout 0.1",
    ),
]
MaxRows: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Learns from the latest rows only. Example: --max-rows 200000",
        show_default=False,
    ),
]
Epochs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Passes over the rows; without it a good number. Example: --epochs 1",
        show_default=False,
    ),
]
Size: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Size of both models: tiny, small (default), medium or large. Example: --size tiny",
        show_default=False,
    ),
]
TableRows: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Rows of each embedding table, where the size's own are too many: "
        "medium has 64 tables of 1,000,000. Example: --table-rows 20000",
        show_default=False,
    ),
]
Resume: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="A snapshot whose weights are trained further, on newer rows: give it "
        "those alone, or --max-rows. Example: --resume snapshots",
        show_default=False,
    ),
]
Foundation: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Also trains a foundation model of pairs (tiny, small, mlperf-like, "
        "medium, large), which the ranker then reads. Example: --foundation small",
        show_default=False,
    ),
]


def train(
    trace: TracePath,
    out: Out = Path("snapshots"),
    holdout: Holdout = 0.2,
    seed: Seed = 0,
    max_rows: MaxRows = None,
    epochs: Epochs = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads. Example: --threads 4")] = 1,
    size: Size = None,
    table_rows: TableRows = None,
    resume: Resume = None,
    foundation: Foundation = None,
    from_log: FromLog = None,
    ranker: LoggedRanker = None,
    window: Window = "1h",
    without_event: WithoutEventOption = "unknown",
    json_: Json = None,
) -> None:
    """Trains a user model and a ranker on a trace and writes both as one snapshot.

    The latest rows are held out and measured the way the server would score them: AUC by label.
    With --from-log a ranker alone, on what serving saw.

    Example: predawn train day.jsonl.gz --holdout 0.2 --out snapshots
    Next day: predawn train next.jsonl.gz --resume snapshots --out snapshots
    """
    options: dict[str, Any] = {
        "out": out,
        "holdout": holdout,
        "seed": seed,
        "max_rows": max_rows,
        "epochs": epochs,
        "threads": threads,
        "size": size,
        "table_rows": table_rows,
        "resume": resume,
        "foundation": foundation,
    }
    output = Output(json_)
    if from_log is not None:
        train_from_log(LogOptions(from_log, ranker, window, without_event), trace, options, output)
    else:
        _train(trace, options, output)


def _train(trace: Path, options: dict[str, Any], output: Output) -> None:
    from predawn.server.models.training import train as train_models
    from predawn.server.traces import read_trace

    with progress() as step:
        step("reading", 0.0)
        log = read_trace(trace)
        step("reading", 1.0)
        report = train_models(log, on_progress=step, **options)
    _show(report, options["out"], output)
    output.document(
        {
            "rows": report.rows,
            "seconds": report.seconds,
            "auc": report.auc,
            "normalised_entropy": report.normalised_entropy,
            "snapshot": str(report.snapshot),
            **({"foundation": report.foundation} if report.foundation else {}),
        }
    )


def _show(report: "TrainReport", out: Path, output: Output) -> None:
    from rich.table import Table

    table = Table("label", "AUC, held out", title=f"{report.rows:,} rows, {report.seconds:.1f} s")
    for label, value in report.auc.items():
        table.add_row(label, f"{value:.4f}")
    output.console.print(table)
    if report.foundation:
        _show_foundation(report, report.foundation, output)
    output.console.print(f"wrote {report.snapshot}; to serve it:", markup=False)
    options = " ".join(f"--set {shlex.quote(each)}" for each in serve_settings(report, out))
    output.console.print(f"  predawn serve {options}", markup=False, soft_wrap=True)


def serve_settings(report: "TrainReport", out: Path) -> list[str]:
    """SECTION.KEY=VALUE of a server for everything that the snapshot has."""
    from predawn.server.config import LONGEST_HISTORY, HistoryConfig
    from predawn.server.models.snapshots import read_manifest

    snapshot = read_manifest(report.snapshot)
    settings = [f"models.sum.snapshot={out}", f"rankers.ctr.snapshot={out}"]
    settings.append('rankers.ctr.user_models=["sum"]')
    if report.foundation:
        settings += [f"pairs.fm.snapshot={out}", 'rankers.ctr.pair_models=["fm"]']
    sections = ["history", *(["foundation"] if report.foundation else [])]
    length = max(snapshot.section(each)["length"] for each in sections)
    if length != HistoryConfig().length:  # pyright: ignore[reportCallIssue]
        settings.append(f"history.length={min(length, LONGEST_HISTORY)}")
    return settings


def _show_foundation(report: "TrainReport", found: dict[str, Any], output: Output) -> None:
    from rich.table import Table

    table = Table("held out", "normalised entropy", title="What the foundation model is worth")
    rows = {
        "ranker without it": found["without"],
        "ranker with it, no pair there": found["missing"],
        "ranker with it, all pairs there": {"normalised_entropy": report.normalised_entropy},
        "foundation model itself": found["itself"],
    }
    for name, figures in rows.items():
        value = figures and figures["normalised_entropy"]
        table.add_row(name, "-" if value is None else f"{value:.4f}")
    output.console.print(table)
    if found["gain_kept"] is not None:
        output.console.print(f"share of its gain kept: {found['gain_kept']:.0%}", markup=False)
