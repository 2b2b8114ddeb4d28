"""Reads traces that are tables: Parquet, and separated text such as KuaiRand's logs.

Parquet has the members of the JSON lines as columns: `t_ms`, `user`, and either `items` and
`clicked` (lists) or `item` and `clicked` (one item a row), ordered by time. Separated text (tab or
comma, with a header) has one item a row under predawn's names or KuaiRand's, in any order.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from predawn.server.request import F32, I64
from predawn.server.traces_data import Block, Bools, Ids, TraceError, in_time_order

_NAMES = {"t_ms": ("t_ms", "time_ms"), "user": ("user", "user_id"), "item": ("item", "video_id")}
_CLICKED = ("clicked", "is_click")
_LABELS = {"like": ("like", "label"), "long_view": ("long_view",)}
_SECONDS = {"duration_s": ("duration_ms", 1000.0)}


def is_separated(header: bytes) -> bool:
    """Whether a file's first line is a header that `read_separated` understands."""
    names = set(_split(header.decode("utf-8", "replace")))
    return all(names.intersection(accepted) for accepted in _NAMES.values())


def _split(line: str) -> list[str]:
    text = line.rstrip("\r\n")
    return text.split("\t" if "\t" in text else ",")


def read_separated(path: Path, lines: Iterator[bytes]) -> list[Block]:
    """One request of one item per row, sorted by time (stable)."""
    header = _split(_text(path, 1, next(lines)))
    position = {name: at for at, name in enumerate(header)}
    where = {field: _first(position, accepted) for field, accepted in _NAMES.items()}
    for field, at in where.items():
        if at is None:
            reason = f"the header has no column {' or '.join(_NAMES[field])}"
            raise TraceError(path, 1, reason)
    columns = _columns(path, lines, len(header))
    if not columns:
        raise TraceError(path, 0, "holds no rows below its header")

    def numbers(at: int, lowest: int = -(2**63)) -> I64:
        return _integers(path, header[at], columns[at], lowest)

    clicked = _first(position, _CLICKED)
    labels = {name: _first(position, accepted) for name, accepted in _LABELS.items()}
    block = Block(
        t_ms=numbers(where["t_ms"] or 0),
        users=_ids(columns[where["user"] or 0]),
        counts=np.ones(len(columns[0]), dtype=np.int64),
        item_ids=_ids(columns[where["item"] or 0]),
        clicked=None if clicked is None else numbers(clicked) != 0,
        labels={n: numbers(at).astype(np.float32) for n, at in labels.items() if at is not None},
        features={
            name: (numbers(position[source], 0) / divisor).astype(np.float32)
            for name, (source, divisor) in _SECONDS.items()
            if source in position
        },
    )
    return [in_time_order(block)]


def _text(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise TraceError(path, number, f"is not UTF-8: {error}") from None


def _first(position: dict[str, int], accepted: Iterable[str]) -> int | None:
    return next((position[name] for name in accepted if name in position), None)


def _columns(path: Path, lines: Iterable[bytes], width: int) -> list[tuple[str, ...]]:
    rows: list[list[str]] = []
    for number, line in enumerate(lines, 2):
        row = _split(_text(path, number, line))
        if len(row) != width:
            raise TraceError(path, number, f"has {len(row)} fields, the header has {width}")
        rows.append(row)
    return list(zip(*rows, strict=True))


def _integers(path: Path, name: str, values: tuple[str, ...], lowest: int) -> I64:
    try:
        numbers = np.array(list(map(int, values)), dtype=np.int64)
        if numbers.min() >= lowest:
            return numbers
    except (ValueError, OverflowError):
        pass
    for number, text in enumerate(values, 2):
        if not _is_integer(text, lowest):
            raise TraceError(path, number, f"{name}: needs an integer, got {text!r}")
    raise AssertionError(f"column {name} is sound after all")


def _is_integer(text: str, lowest: int) -> bool:
    try:
        return lowest <= int(text) < 2**63
    except ValueError:
        return False


def _ids(values: tuple[str, ...]) -> Ids:
    """Integers where every value is one, else strings."""
    try:
        return np.array(list(map(int, values)), dtype=np.uint64)
    except (ValueError, OverflowError):
        return list(values)


def read_parquet(path: Path) -> list[Block]:
    """One block of a Parquet file of requests or events; TraceError names row and reason."""
    try:
        table = pq.read_table(path).combine_chunks()
        table.validate(full=True)
        columns = {name: _single(table.column(name)) for name in table.column_names}
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise TraceError(path, 0, f"not a readable Parquet file: {error}") from None
    if "items" not in columns and "item" not in columns:
        raise TraceError(path, 0, "needs a column 'items' (lists) or 'item'; it has neither")
    for name in ("t_ms", "user"):
        if name not in columns:
            raise TraceError(path, 0, f"needs a column {name!r}; it has {', '.join(columns)}")
    if len(table) == 0:
        raise TraceError(path, 0, "holds no requests")
    return [_parquet_block(path, columns)]


def _single(column: Any) -> Any:
    """The one array of a column (or an empty one) after `combine_chunks`; categories as values."""
    array = column.chunk(0) if column.num_chunks else pa.array([], type=column.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _parquet_block(path: Path, columns: dict[str, Any]) -> Block:
    t_ms = _numbers(path, "t_ms", columns["t_ms"], np.int64)
    back = np.flatnonzero(np.diff(t_ms) < 0)
    if len(back):
        row = int(back[0]) + 1
        raise TraceError(path, row + 1, f"t_ms goes back: {t_ms[row]} after {t_ms[row - 1]}")
    counts, flat = _jagged(path, columns)
    item_ids = _parquet_ids(path, "items", flat)
    _no_item_twice(path, counts, item_ids)
    clicked = _parquet_clicked(path, columns, counts, item_ids)
    return Block(
        t_ms=t_ms,
        users=_parquet_ids(path, "user", columns["user"]),
        counts=counts,
        item_ids=item_ids,
        clicked=clicked,
        labels=_prefixed(path, columns, "label.", counts),
        features=_prefixed(path, columns, "feature.", counts),
    )


def _lists(path: Path, name: str, column: Any) -> tuple[I64, Any]:
    """(items per row, all values) of a column of lists."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise TraceError(path, 0, f"column {name!r} needs lists, it has {column.type}")
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise TraceError(path, row + 1, f"{name}: needs a list, got null")
    counts = np.diff(column.offsets.to_numpy()).astype(np.int64)
    return counts, column.flatten()


def _jagged(path: Path, columns: dict[str, Any]) -> tuple[I64, Any]:
    if "items" not in columns:
        return np.ones(len(columns["item"]), dtype=np.int64), columns["item"]
    counts, flat = _lists(path, "items", columns["items"])
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise TraceError(path, int(empty[0]) + 1, "items: needs at least one id, got none")
    return counts, flat


def _no_item_twice(path: Path, counts: I64, item_ids: Ids) -> None:
    _, numbers = np.unique(np.asarray(item_ids), return_inverse=True)
    span = int(numbers.max(initial=0)) + 1
    keys = np.sort(np.repeat(np.arange(len(counts)), counts) * span + numbers)
    twice = np.flatnonzero(np.diff(keys) == 0)
    if len(twice):
        row = int(keys[twice[0]] // span) + 1
        raise TraceError(path, row, "items: an id is there twice")


def _numbers(path: Path, name: str, column: Any, dtype: Any) -> Any:
    sound = pa.types.is_integer(column.type) or (
        np.dtype(dtype).kind == "f" and pa.types.is_floating(column.type)
    )
    if not sound or column.null_count:
        what = "integers" if np.dtype(dtype).kind in "iu" else "numbers"
        found = "nulls" if sound else str(column.type)
        raise TraceError(path, 0, f"column {name!r} needs {what}, it has {found}")
    return column.to_numpy(zero_copy_only=False).astype(dtype)


def _parquet_ids(path: Path, name: str, column: Any) -> Ids:
    if column.null_count:
        raise TraceError(path, 0, f"column {name!r} has nulls; every row needs an id")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return list(column.to_pylist())
    values = _numbers(path, name, column, np.uint64)
    if pa.types.is_signed_integer(column.type):
        below = np.flatnonzero(column.to_numpy(zero_copy_only=False) < 0)
        if len(below):
            raise TraceError(path, 0, f"column {name!r} has negative ids, e.g. {column[below[0]]}")
    return np.asarray(values, dtype=np.uint64)


def _parquet_clicked(
    path: Path, columns: dict[str, Any], counts: I64, item_ids: Ids
) -> Bools | None:
    column = columns.get("clicked")
    if column is None:
        return None
    if "items" not in columns and pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)
    clicks, flat = _lists(path, "clicked", column)
    mask = np.zeros(len(item_ids), dtype=np.bool_)
    ids = np.asarray(item_ids)
    ends = np.cumsum(counts)
    rows = np.repeat(np.arange(len(counts)), clicks).tolist()
    for row, item in zip(rows, flat.to_pylist(), strict=True):
        start, end = int(ends[row] - counts[row]), int(ends[row])
        found = np.flatnonzero(ids[start:end] == item)
        if not len(found):
            raise TraceError(path, row + 1, f"clicked: {item!r} is not among the items")
        mask[start + int(found[0])] = True
    return mask


def _prefixed(path: Path, columns: dict[str, Any], prefix: str, counts: I64) -> dict[str, F32]:
    """Columns `prefix`NAME of one list of numbers per request, parallel to `items`."""
    found: dict[str, F32] = {}
    for name, column in columns.items():
        if name.startswith(prefix):
            lengths, flat = _lists(path, name, column)
            uneven = np.flatnonzero(lengths != counts)
            if len(uneven):
                reason = f"{name}: needs one number per item"
                raise TraceError(path, int(uneven[0]) + 1, reason)
            found[name.removeprefix(prefix)] = _numbers(path, name, flat, np.float32)
    return found
