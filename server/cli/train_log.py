"""`predawn train --from-log`: from what serving saw to a snapshot with a ranker."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast, get_args

import typer

from predawn.server.cli.output import Output, progress
from predawn.server.errors import ConfigError

if TYPE_CHECKING:
    from predawn.server.models.training_log import LogTrainReport
    from predawn.server.models.training_log_labels import Join

FromLog: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="A served-feature log: the ranker alone learns, from what serving saw; "
        "the trace then tells what users did. Example: --from-log served",
        show_default=False,
    ),
]
LoggedRanker: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--ranker",
        help="Whose rows of the log; needed if it has several. Example: --ranker ctr",
        show_default=False,
    ),
]
Window: TypeAlias = Annotated[
    str,
    typer.Option(
        help="How long after it was logged an event of the trace, by user and item, is of a "
        "candidate. Example: --window 30m"
    ),
]
WithoutEventOption: TypeAlias = Annotated[
    str,
    typer.Option(
        help="What a shown candidate is that has no event in that time: unknown (left out) or "
        "negative. Example: --without-event negative"
    ),
]


@dataclass(frozen=True, slots=True)
class LogOptions:
    """As given on the command line."""

    directory: Path
    ranker: str | None
    window: str
    without_event: str

    def join(self) -> "Join":
        """ConfigError names the option."""
        from predawn.server.config import duration_ms
        from predawn.server.models.training_log_labels import Join, WithoutEvent

        try:
            window_ms = duration_ms(self.window)
        except ValueError as error:
            raise ConfigError("--window", f"{self.window!r} {error}") from None
        known = get_args(WithoutEvent)
        if self.without_event not in known:
            said = f"{self.without_event!r} is unknown; use {' or '.join(known)}"
            raise ConfigError("--without-event", said)
        return Join(int(cast(int, window_ms)), cast(WithoutEvent, self.without_event))


def train_from_log(log: LogOptions, trace: Path, options: dict[str, Any], output: Output) -> None:
    """options: of `training.train`; those that are of other models must be None."""
    from predawn.server.models.training_log import train_from_log as train_ranker
    from predawn.server.traces import read_trace

    for name in ("table_rows", "foundation"):
        if options.pop(name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')}", "is of models that --from-log keeps")
    join = log.join()
    with progress() as step:
        step("reading the trace", 0.0)
        happened = read_trace(trace)
        step("reading the trace", 1.0)
        report = train_ranker(
            log.directory, happened, ranker=log.ranker, join=join, on_progress=step, **options
        )
    _show(report, options["out"], output)
    output.document(
        {
            "ranker": report.ranker,
            "requests": report.requests,
            "rows": report.rows,
            "labelled": report.labelled,
            "seconds": report.seconds,
            **report.figures,
            "snapshot": str(report.snapshot),
        }
    )


def _show(report: "LogTrainReport", out: Path, output: Output) -> None:
    from rich.table import Table

    title = f"{report.rows:,} rows, {report.labelled:,} with a label, {report.seconds:.1f} s"
    table = Table("held out", "as served", "this ranker", title=title)
    served = report.figures.get("served", {"auc": {}, "normalised_entropy": None})
    for label, value in report.figures["auc"].items():
        before = served["auc"].get(label)
        table.add_row(f"AUC of {label}", _number(before), _number(value))
    entropies = (served["normalised_entropy"], report.figures["normalised_entropy"])
    table.add_row("normalised entropy", *map(_number, entropies))
    output.console.print(table)
    output.console.print(f"wrote {report.snapshot}; to serve it:", markup=False)
    setting = f"  predawn serve --set rankers.{report.ranker}.snapshot={out} ..."
    output.console.print(setting, markup=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
