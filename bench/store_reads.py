"""Reads by one thread: batches of all sizes, one key, and what others do with the same keys."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from predawn.bench import compiled, limits_memory, peers_native, peers_python
from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.bench.store_tables import (
    DIM,
    NOW_MS,
    TTL_MS,
    Batches,
    Plan,
    Table,
    batches_of,
    filled,
    huge_row,
    ids_of,
    rows_of,
    scratch,
    store_reader,
    table_name,
)
from predawn.csrc import _core
from predawn.server.request import F32

DTYPES = ("fp16", "fp32")
_KNOWN = ("numpy.take", "dict+take")


def names(plan: Plan) -> list[str]:
    """Cases of `reads`."""
    tables = [(dtype, table_name(dtype, DIM, plan.entries)) for dtype in DTYPES]
    return [
        *(f"get {n:,}, {table}" for _, table in tables for n in plan.counts),
        *(f"get one key, {table}" for _, table in tables),
        *(_python_name(plan, dtype) for dtype, _ in tables),
    ]


def _python_name(plan: Plan, dtype: str) -> str:
    return f"get {plan.batch:,}, {table_name(dtype, DIM, plan.entries)}, peers of {plan.small:,}"


def native_names(plan: Plan) -> list[str]:
    """Cases of `native_maps`."""
    return [
        f"get {plan.batch:,} in C++, {table_name(dtype, DIM, plan.entries)}" for dtype in DTYPES
    ]


def reads(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """Batches of all sizes against numpy.take and a dict, one key against an empty call, and one
    batch against Python's caches: one run, all taking turns."""
    rows = rows_of(plan.entries, DIM)
    ids = ids_of(plan.entries).tolist()
    index = {key: position for position, key in enumerate(ids)}
    with ExitStack() as stack:
        peers = stack.enter_context(peers_python.opened(ids[: plan.small], rows[: plan.small]))
        cases: list[Case] = []
        tables: list[Table] = []
        for dtype in DTYPES:
            table = filled(rows, dtype)
            limit = limits_memory.lookup_limit(stack, plan.entries, table.row_bytes)
            cases += [_get(table, n, index, limit) for n in plan.counts]
            cases += [_one_key(table), _python(table, plan, peers, limit)]
            tables.append(table)
        found = measure(mark, cases, effort)
        # Afterwards: the kernel may have taken them back meanwhile.
        found += [
            huge_row(mark, f"get {plan.batch:,}, {table.name}", table.cache) for table in tables
        ]
    return [*found, *_one_key_differences(mark, found), *_linearity(mark, plan, found)]


def _get(table: Table, n: int, index: dict[int, int], limit: Subject | None) -> Case:
    batches = batches_of(table.live, n)
    return Case(
        f"get {n:,}, {table.name}",
        batches.subject("predawn", store_reader(table, batches)),
        peers=(
            batches.subject("numpy.take", _numpy_take(table.rows, batches)),
            batches.subject("dict+take", _dict_take(table, batches, index)),
        ),
        limit=limit,
        same=_KNOWN,
        per="key",
    )


def _numpy_take(rows: F32, batches: Batches) -> Callable[[int], F32]:
    """Positions are known: nothing is looked for, no ages are kept."""
    out = np.empty((batches.positions.shape[1], rows.shape[1]), np.float32)
    positions = list(batches.positions)
    return lambda i: np.take(rows, positions[i], axis=0, out=out, mode="clip")


def _dict_take(table: Table, batches: Batches, index: dict[int, int]) -> Callable[[int], F32]:
    """The best that Python does by hand, without ages, TTL and eviction."""
    out = np.empty((batches.positions.shape[1], table.rows.shape[1]), np.float32)
    rows, ids = table.rows, table.ids[batches.positions].tolist()
    return lambda i: np.take(rows, [index[key] for key in ids[i]], axis=0, out=out, mode="clip")


def _python(table: Table, plan: Plan, peers: peers_python.Peers, limit: Subject | None) -> Case:
    """The store reads from all its entries, peers from the first of them, which they hold."""
    own = batches_of(table.live, plan.batch)
    theirs = batches_of(table.live[table.live < plan.small], plan.batch)
    ids = table.ids[theirs.positions].tolist()

    def subject(name: str, read: peers_python.Read) -> Subject:
        return theirs.subject(name, lambda i: read(ids[i]))

    return Case(
        _python_name(plan, table.dtype),
        own.subject("predawn", store_reader(table, own)),
        peers=tuple(subject(name, read) for name, read in peers.readers.items()),
        limit=limit,
        absent=peers.absent,
        per="key",
    )


def _one_key(table: Table) -> Case:
    """A call with one key; the peer is an empty one, called in the same way."""
    out, ages = np.empty((1, DIM), np.float32), np.empty(1, np.int64)
    keys = table.keys[table.live[:1_000]].reshape(-1, 1, 2)
    get_many = table.cache.get_many
    own = itertools.cycle([partial(get_many, key, NOW_MS, TTL_MS, out, ages) for key in keys])
    empty = itertools.cycle([partial(_core.nothing)] * len(keys))
    return Case(
        f"get one key, {table.name}",
        Subject("predawn", lambda: next(own)()),
        peers=(Subject("empty call", lambda: next(empty)()),),
    )


def _one_key_differences(mark: Stamp, found: list[Row]) -> Iterator[Row]:
    for row in found:
        if row.peer == "empty call" and row.ratio is not None:
            more_us = row.value * (1 - row.ratio) / 1_000
            yield mark.row(row.case, "more_than_an_empty_call", more_us, "us", n=row.n)


def _linearity(mark: Stamp, plan: Plan, found: list[Row]) -> Iterator[Row]:
    """The cost of a key in the largest batch over that in the usual one, less one."""
    times = {row.case: row for row in found if row.metric == "time"}
    for dtype in DTYPES:
        name = table_name(dtype, DIM, plan.entries)
        usual = times.get(f"get {plan.batch:,}, {name}")
        large = times.get(f"get {plan.counts[-1]:,}, {name}")
        if usual and large:
            more = large.value / usual.value - 1
            yield mark.row(large.case, f"more_than_in_{plan.batch}", more, "share", n=large.n)


def native_maps(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """C++ to C++: the store's own loop against maps that have huge pages too."""
    rows = rows_of(plan.entries, DIM)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        peers = stack.enter_context(peers_native.opened(ids_of(plan.entries), rows))
        cases = [_native(stack, plan, dtype, rows, folder, peers) for dtype in DTYPES]
        return measure(mark, cases, effort)


def _native(
    stack: ExitStack, plan: Plan, dtype: str, rows: F32, folder: Path, peers: peers_native.Peers
) -> Case:
    table = filled(rows, dtype, path=folder / dtype)
    batches = batches_of(table.live, plan.batch)
    name = f"get {plan.batch:,} in C++, {table.name}"
    limit = limits_memory.lookup_limit(stack, plan.entries, table.row_bytes)
    try:
        own = stack.enter_context(peers_native.attached(folder / dtype))
    except compiled.Missing:
        read = store_reader(table, batches)
    else:
        read = own.of(table.keys[batches.positions])
    ids = table.ids[batches.positions]
    return Case(
        name,
        batches.subject("predawn", read),
        peers=tuple(batches.subject(name, peer.of(ids)) for name, peer in peers.readers.items()),
        limit=limit,
        same=tuple(name for name in peers.readers if name not in peers_native.UNORDERED),
        absent=peers.absent,
        per="key",
    )
