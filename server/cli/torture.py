"""`predawn bench torture`: processes that read, write, are stopped and killed, and one verdict."""

from typing import TYPE_CHECKING

from predawn.server.cli.output import Output, progress
from predawn.server.errors import PredawnError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

_SHOWN_VIOLATIONS = 8


class TortureFailed(PredawnError):
    """The store did something that it must not; a line per count, and the first cases."""


def torture(seconds: float, processes: int, seed: int, output: Output) -> None:
    """Runs it, shows what was found; TortureFailed when something was wrong."""
    from predawn.bench import torture as chamber
    from predawn.bench.torture_tally import faults

    with progress() as step:
        report = chamber.run(seconds, workers=processes, seed=seed, told=step)
    output.document(report)
    _show(report, output.console)
    found = faults(report)
    if found:
        raise TortureFailed("\n".join([*found, *_first(report)]))


def _first(report: "Mapping[str, object]") -> list[str]:
    violations = report["violations"]
    return (
        [str(one) for one in violations[:_SHOWN_VIOLATIONS]] if isinstance(violations, list) else []
    )


def _show(report: "Mapping[str, object]", console: "Console") -> None:
    from rich.table import Table

    table = Table(title="Torture of the store", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("found", justify="right")
    for name, value in report.items():
        if name not in ("phases", "violations"):
            table.add_row(name.replace("_", " "), _text(value))
    console.print(table)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(held)}" for key, held in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
