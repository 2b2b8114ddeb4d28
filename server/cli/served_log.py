"""`predawn served-log`: what a served-feature log holds, file by file, and what was served."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predawn.server.cli.options import Json
from predawn.server.cli.output import Output, progress

if TYPE_CHECKING:
    from predawn.server.served_log_read import ServedLogFile


def served_log(
    directory: Annotated[
        Path, typer.Argument(help="Directory of the log, as `served_log.path` has it.")
    ],
    json_: Json = None,
) -> None:
    """Shows the files of a served-feature log and the share of each source, by model.

    Example: predawn served-log served
    """
    from predawn.server.served_log_read import served_log as opened
    from predawn.server.served_log_read import source_counts

    output, totals = Output(json_), dict[str, Any]()
    with progress() as step:
        files = opened(directory)
        for number, file in enumerate(files, 1):
            for model, counts in source_counts(file):
                totals[model] = totals.get(model, 0) + counts
            step("counting", number / len(files))
    shares = {model: _shares(counts) for model, counts in totals.items()}
    rows = [_row(file) for file in files]
    _show(rows, shares, output)
    output.document({"files": rows, "sources": shares})


def _row(file: "ServedLogFile") -> dict[str, Any]:
    return {
        "file": file.path.name,
        "requests": file.rows,
        "bytes": file.path.stat().st_size,
        "values": file.layout.values,
        "rankers": list(file.layout.rankers),
    }


def _shares(counts: Any) -> dict[str, float]:
    """Of the sources that were there at all."""
    from predawn.server.request import Source

    total = max(int(counts.sum()), 1)
    return {source.label: counts[source] / total for source in Source if counts[source]}


def _show(rows: list[dict[str, Any]], shares: dict[str, dict[str, float]], output: Output) -> None:
    from rich.table import Table

    requests, size = (sum(row[name] for row in rows) for name in ("requests", "bytes"))
    title = f"{len(rows)} files, {requests:,} requests, {size / 2**20:.1f} MiB"
    files = Table("file", "written", "requests", "KiB", "values", title=title)
    for row in rows:
        at = datetime.fromtimestamp(int(row["file"].split("-")[1]) / 1000, UTC)
        kib = f"{row['bytes'] / 1024:.0f}"
        files.add_row(row["file"], f"{at:%F %T}", f"{row['requests']:,}", kib, row["values"])
    output.console.print(files)
    served = Table("model", "source", "share", title="What was served")
    for model, found in shares.items():
        for source, share in found.items():
            served.add_row(model, source, f"{share:.1%}")
    output.console.print(served)
