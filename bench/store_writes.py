"""Writes by one thread: overwriting what is there, and inserting into a table that is full."""

from collections.abc import Callable, Sequence

import numpy as np

from predawn.bench.harness import Case, Effort, Row, Stamp, measure
from predawn.bench.store_tables import (
    DIM,
    NOW_MS,
    Batches,
    Plan,
    Table,
    batches_of,
    filled,
    ids_of,
    keys_of,
    rows_of,
    table_name,
)
from predawn.server.request import F32, U64

_DTYPES = ("fp16", "fp32")
_VALUES = 16  # batches of rows


def names(plan: Plan) -> list[str]:
    """Cases of `puts`."""
    tables = [table_name(dtype, DIM, plan.entries) for dtype in _DTYPES]
    return [f"put {plan.batch:,} {what}, {table}" for table in tables for what in ("old", "new")]


def puts(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """Batches of keys that are there ("old"), then of keys that are not ("new": each evicts)."""
    rows = rows_of(plan.entries, DIM)
    copy = rows.copy()
    found: list[Row] = []
    for dtype in _DTYPES:
        table = filled(rows, dtype)
        cases = [_overwrite(table, plan.batch, copy), _insert(table, plan.batch)]
        found += measure(mark, cases, effort)
    return found


def _overwrite(table: Table, n: int, copy: F32) -> Case:
    """The limit and the dict write the same rows to a copy of the array."""
    batches = batches_of(table.live, n)
    positions = list(batches.positions)
    ids = table.ids[batches.positions].tolist()
    index = {key: position for position, key in enumerate(table.ids.tolist())}
    written = np.zeros(len(copy), np.int64)
    values = _values(table, n)

    def assign(i: int) -> None:
        copy[positions[i]] = values[i % _VALUES]

    def dict_assign(i: int) -> None:
        found = [index[key] for key in ids[i]]
        copy[found] = values[i % _VALUES]
        written[found] = NOW_MS

    return Case(
        f"put {n:,} old, {table.name}",
        batches.subject("predawn", _put(table, values, list(table.keys[batches.positions]))),
        peers=(batches.subject("dict+assign", dict_assign),),
        limit=batches.subject("assign", assign),
        per="key",
    )


def _insert(table: Table, n: int) -> Case:
    """Keys that nobody has written: after the first round all ways are full."""
    entries = len(table.ids)
    count = max(16, entries // n)
    keys = keys_of(ids_of(count * n, start=entries)).reshape(count, n, 2)
    batches = Batches(np.zeros((count, n), np.int64))
    return Case(
        f"put {n:,} new, {table.name}",
        batches.subject("predawn", _put(table, _values(table, n), list(keys))),
        per="key",
    )


def _values(table: Table, n: int) -> list[F32]:
    """What is written: few enough rows that they come from the caches, as a model's output does."""
    return list(table.rows[: _VALUES * n].reshape(-1, n, table.rows.shape[1]))


def _put(table: Table, values: Sequence[F32], keys: Sequence[U64]) -> Callable[[int], int]:
    put_many = table.cache.put_many
    return lambda i: put_many(keys[i], values[i % len(values)], NOW_MS, 1, 0)
