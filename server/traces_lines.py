"""Reads traces of JSON lines: ranking requests, plain events, and OTTO's nested sessions.

    request  {"t_ms": 1, "user": 7, "items": [3, 4], "clicked": [4],
              "labels": {"like": [0, 1]}, "features": {"duration_s": [9.5, 3]}}
    event    {"t_ms": 1, "user": 7, "item": 3, "clicked": true}
    OTTO     {"session": 7, "events": [{"aid": 3, "ts": 1, "type": "clicks"}]}

`clicked`, `labels` and `features` may be absent; other members are ignored. Rows are converted a
block at a time; only when a block does not convert is it walked row by row to name the fault.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import orjson

from predawn.server.request import F32
from predawn.server.traces_data import Block, Ids, TraceError, in_time_order
from predawn.server.traces_fault import otto_fault, row_fault

_BLOCK_ROWS = 20_000
_OTTO_LABELS = {"clicks": "click", "carts": "cart", "orders": "order"}

Row = dict[str, Any]
Numbered = list[tuple[int, Row]]


def read_lines(path: Path, lines: Iterable[bytes]) -> list[Block]:
    """Blocks of a file of requests, events or OTTO sessions; TraceError on anything else."""
    numbered = _parsed(path, lines)
    first = next(numbered, None)
    if first is None:
        raise TraceError(path, 0, "holds no requests")
    numbered = chain([first], numbered)
    if "session" in first[1]:
        return [_otto_block(path, list(numbered))]
    return list(_request_blocks(path, numbered))


def _parsed(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise TraceError(path, number, f"malformed JSON: {error}") from None
        if not isinstance(row, dict):
            raise TraceError(path, number, f"needs an object, got {type(row).__name__}")
        yield number, row


def _request_blocks(path: Path, numbered: Iterator[tuple[int, Row]]) -> Iterator[Block]:
    previous: Block | None = None
    rows: Numbered = []
    for row in numbered:
        rows.append(row)
        if len(rows) == _BLOCK_ROWS:
            previous = _checked(path, rows, previous)
            yield previous
            rows = []
    if rows:
        yield _checked(path, rows, previous)


def _checked(path: Path, rows: Numbered, previous: Block | None) -> Block:
    """Converts a block and checks what spans rows: time order and kinds of ids."""
    block = _converted(path, rows, _request_block, row_fault)
    floor = block.t_ms[0] if previous is None else previous.t_ms[-1]
    before = np.concatenate([[floor], block.t_ms[:-1]])
    back = np.flatnonzero(block.t_ms < before)
    if len(back):
        at = int(back[0])
        reason = f"t_ms goes back: {block.t_ms[at]} after {before[at]}; order the trace by time"
        raise TraceError(path, rows[at][0], reason)
    if previous is not None:
        for field, now, then in (
            ("user", block.users, previous.users),
            ("items", block.item_ids, previous.item_ids),
        ):
            if isinstance(now, list) != isinstance(then, list):
                raise TraceError(path, rows[0][0], f"{field}: integer and string ids are mixed")
    return block


def _converted(
    path: Path,
    rows: Numbered,
    convert: Callable[[list[Row]], Block],
    fault: Callable[[Row, Row], str | None],
) -> Block:
    try:
        return convert([row for _, row in rows])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        for number, row in rows:
            reason = fault(row, rows[0][1])
            if reason is not None:
                raise TraceError(path, number, reason) from None
        raise


def _request_block(rows: list[Row]) -> Block:
    lists = [row["items"] if "items" in row else [row["item"]] for row in rows]
    _require(set(map(type, lists)) == {list} and all(lists))
    item_ids = ids_of(list(chain.from_iterable(lists)))
    counts = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    _require(sum(map(len, map(set, lists))) == len(item_ids))
    return Block(
        t_ms=_integers([row["t_ms"] for row in rows]),
        users=ids_of([row["user"] for row in rows]),
        counts=counts,
        item_ids=item_ids,
        clicked=_clicked(rows, lists, len(item_ids)),
        labels=_per_item(rows, lists, "labels", np.nan),
        features=_per_item(rows, lists, "features", 0.0),
    )


def _require(condition: bool) -> None:
    """Sends the block to the row-by-row check, which says what is wrong."""
    if not condition:
        raise ValueError


def ids_of(values: list[Any]) -> Ids:
    """Ids of one kind: all integers in 0..2**64 - 1, or all strings; else ValueError or worse."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return values
    _require(kinds <= {int})
    return np.array(values, dtype=np.uint64)


def _integers(values: list[Any]) -> Any:
    _require(set(map(type, values)) <= {int})
    return np.array(values, dtype=np.int64)


def _clicked(rows: list[Row], lists: list[list[Any]], total: int) -> Any:
    """bool [total], or None when no row has the member."""
    mask = np.zeros(total, dtype=np.bool_)
    known = False
    start = 0
    for row, items in zip(rows, lists, strict=True):
        clicked = row.get("clicked")
        if clicked is not None:
            known = True
            if isinstance(clicked, list):
                for item in clicked:
                    mask[start + items.index(item)] = True
            else:
                _require("item" in row and clicked in (0, 1))
                mask[start] = bool(clicked)
        start += len(items)
    return mask if known else None


def _per_item(
    rows: list[Row], lists: list[list[Any]], member: str, absent: float
) -> dict[str, F32]:
    """The numbers of {member: {name: [one per item]}}, `absent` where a row has none."""
    names = dict.fromkeys(chain.from_iterable(row[member] for row in rows if member in row))
    columns: dict[str, F32] = {}
    for name in names:
        values: list[Any] = []
        for row, items in zip(rows, lists, strict=True):
            mine = row[member].get(name) if member in row else None
            values += [absent] * len(items) if mine is None else mine
        _require(set(map(type, values)) <= {int, float, bool, NoneType})
        _require(len(values) == sum(map(len, lists)))
        columns[name] = np.array(values, dtype=np.float32)
    return columns


def _otto_block(path: Path, rows: Numbered) -> Block:
    """One request of one item per event; every event is an interaction, hence a click."""
    return in_time_order(_converted(path, rows, _otto_columns, otto_fault))


def _otto_columns(rows: Sequence[Row]) -> Block:
    events = [event for row in rows for event in row["events"]]
    kinds = [_OTTO_LABELS[event["type"]] for event in events]
    counts = [len(row["events"]) for row in rows]
    sessions = np.repeat(np.array(ids_of([row["session"] for row in rows])), counts)
    _require(all(counts))
    return Block(
        t_ms=_integers([event["ts"] for event in events]),
        users=ids_of(sessions.tolist()),
        counts=np.ones(len(events), dtype=np.int64),
        item_ids=ids_of([event["aid"] for event in events]),
        clicked=np.ones(len(events), dtype=np.bool_),
        labels={
            name: np.array([kind == name for kind in kinds], dtype=np.float32)
            for name in ("cart", "order")
        },
        features={},
    )
