"""`predawn verify`: does a server score as the training did?"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from predawn.server.cli.bench import failures
from predawn.server.cli.options import Json
from predawn.server.cli.output import Output, progress

if TYPE_CHECKING:
    from predawn.bench.verify import Verified


def verify(
    snapshot: Annotated[
        Path, typer.Argument(help="Directory that `predawn train` wrote. Example: snapshots")
    ],
    trace: Annotated[Path, typer.Argument(help="The log that it was trained on.")],
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Held-out requests to ask for; without it all of them. "
                     "Example: --limit 500", show_default=False),
    ] = None,
    json_: Json = None,
) -> None:  # fmt: skip
    """Serves a snapshot over HTTP and compares its scores with those of the training.

    Sends the past as events, then asks for every held-out request in order of time, telling the
    server what happened as it goes. Exit code 1 when any score differs by more than 1e-5.

    Example: predawn verify snapshots day.jsonl.gz --limit 500
    """
    from predawn.bench.verify import verify as verify_served
    from predawn.server.traces import read_trace

    output = Output(json_)
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder, progress() as step, failures():
        found = verify_served(snapshot, read_trace(trace), Path(folder), limit, step)
    _show(found, output)
    output.document(found.as_json())
    if not found.agrees:
        raise typer.Exit(1)


def _show(found: "Verified", output: Output) -> None:
    from rich.table import Table

    title = f"{found.requests:,} requests, {found.rows:,} rows over HTTP"
    table = Table("figure", "value", title=title)
    table.add_row("largest difference to offline", f"{found.difference_max:.2e}")
    for name, value in found.auc.items():
        table.add_row(f"AUC {name}, as served", f"{value:.4f}")
    output.console.print(table)
