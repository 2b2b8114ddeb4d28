"""Rows as people read them (a rich table) and as machines do (JSON lines, a path or "-")."""

import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from predawn.bench.harness import Row

_SPREAD = "_spread"  # a metric with this ending is shown beside the metric it is the spread of


def json_lines(rows: Sequence[Row]) -> bytes:
    """One JSON object a row, each ended by a newline."""
    return b"".join(orjson.dumps(row.as_json()) + b"\n" for row in rows)


def write_json(rows: Sequence[Row], target: str) -> None:
    """Writes JSON lines to the path `target`, or to standard output for "-"."""
    write_bytes(json_lines(rows), target)


def write_bytes(text: bytes, target: str) -> None:
    """Writes `text` to the path `target`, or to standard output for "-"."""
    if target != "-":
        Path(target).write_bytes(text)
        return
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def people_console(json_target: str | None) -> Console:
    """Where tables go: standard output, but standard error when JSON has the former."""
    return Console(stderr=json_target == "-")


def show(rows: Sequence[Row], console: Console, note: str = "") -> None:
    """Prints one table per suite; `note` becomes the caption."""
    for suite in dict.fromkeys(row.suite for row in rows):
        console.print(_table(suite, [row for row in rows if row.suite == suite], note))


def _table(suite: str, rows: Sequence[Row], note: str) -> Table:
    first = rows[0]
    title = f"{suite} on {first.device}, commit {first.commit}"
    table = Table(title=title, caption=note, title_justify="left", caption_justify="left")
    for name in ("case", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("value", "spread", "limit", "of limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("peer", no_wrap=True)
    table.add_column("times better", justify="right")
    spreads = {(row.case, row.metric): row.value for row in rows if _is_spread(row)}
    last = ("", "")
    for row in rows:
        if _is_spread(row):
            continue
        cells = _cells(row, spreads.get((row.case, row.metric + _SPREAD)))
        again = (row.case, row.metric) == last  # one more peer of the figure above
        table.add_row(*(("",) * 6 if again else cells[:6]), *cells[6:])
        last = (row.case, row.metric)
    return table


def _is_spread(row: Row) -> bool:
    return row.metric.endswith(_SPREAD)


def _cells(row: Row, spread: float | None) -> tuple[str, ...]:
    return (
        escape(row.case),
        row.metric,
        f"{figure(row.value)} {row.unit}",
        "" if spread is None else f"{spread:.0%}",
        "" if row.limit is None else figure(row.limit),
        "" if row.share_of_limit is None else f"{row.share_of_limit:.0%}",
        escape(row.peer or ""),
        "" if row.ratio is None else f"{row.ratio:.2f}",
    )


def figure(value: float) -> str:
    """Three significant digits without an exponent: 0.0123, 4.56, 78.9, 12,345."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
