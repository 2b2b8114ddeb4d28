"""`predawn workload`: a synthetic trace with the timing, repeats and clicks of real logs."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from predawn.server.cli.options import Json, Seed
from predawn.server.cli.output import Output

if TYPE_CHECKING:
    from predawn.server.traces import Trace


class Ctr(StrEnum):
    """How often users click."""

    LIST = "list"
    ADS = "ads"


class Bursts(StrEnum):
    """How uneven the traffic is within seconds."""

    NONE = "none"
    MILD = "mild"
    SEVERE = "severe"


class Candidates(StrEnum):
    """How long the lists are."""

    ONE = "1"
    TEN = "10"
    FIFTY = "50"


def workload(
    out: Annotated[
        Path,
        typer.Option(help="File to write: .jsonl, .jsonl.gz or .parquet by its name; the truth "
                     "goes beside it. Example: --out day.jsonl.gz"),
    ],
    users: Annotated[
        int, typer.Option(min=1, help="How many users there are. Example: --users 10000")
    ] = 1000,
    hours: Annotated[
        float, typer.Option(min=0.01, max=10_000, help="Hours it covers. Example: --hours 24")
    ] = 24.0,
    seed: Seed = 0,
    ctr: Annotated[
        Ctr, typer.Option(help="list: about one click a list; ads: 0.5 % of what is shown.")
    ] = Ctr.LIST,
    candidates: Annotated[
        Candidates, typer.Option(help="Lists of about 10, 100 or 500 items: factor 1, 10 or 50.")
    ] = Candidates.ONE,
    bursts: Annotated[
        Bursts, typer.Option(help="How uneven the requests per second are.")
    ] = Bursts.NONE,
    activity_sigma: Annotated[
        float, typer.Option(min=0, max=4, help="Spread of users' activity; 1.4 is a skewed crowd.")
    ] = 1.0,
    drift_half_life_h: Annotated[
        float, typer.Option(min=0.01, max=1e6, help="Hours in which half of a taste is replaced.")
    ] = 6.0,
    json_: Json = None,
) -> None:  # fmt: skip
    """Generates a trace: requests, clicks and, beside it, the hidden taste behind them.

    The same options give the same bytes.

    Example: predawn workload --users 10000 --hours 24 --seed 1 --out day.jsonl.gz
    """
    from predawn.bench.workload import WorkloadOptions, generate
    from predawn.server.traces import write_trace

    options = WorkloadOptions(
        users=users,
        hours=hours,
        seed=seed,
        ctr=ctr.value,
        candidates=cast(Literal[1, 10, 50], int(candidates.value)),
        bursts=bursts.value,
        activity_sigma=activity_sigma,
        drift_half_life_h=drift_half_life_h,
    )
    output = Output(json_)
    with output.console.status(f"drawing {hours:g} hours of {users} users"):
        trace = generate(options)
        write_trace(out, trace)
    _report(trace, out, output)


def _report(trace: "Trace", out: Path, output: Output) -> None:
    """The figures that the workload is calibrated by, as a table and as JSON."""
    from rich.table import Table

    from predawn.server.traces_describe import describe

    found = describe(trace)
    table = Table("figure", "value", title=str(out), title_justify="left")
    for name, value in found.items():
        if isinstance(value, dict):
            for part, share in value.items():
                table.add_row(f"{name} {part}", f"{share:.1%}")
        else:
            table.add_row(name, f"{value:,.4g}" if isinstance(value, float) else f"{value:,}")
    output.console.print(table)
    output.document({"out": str(out), **found})
