"""How a read's cost grows: with the size of rows, and with the number of entries.

The cost by entries is predicted: the limit at that size, plus what the store does beyond the limit
at the smallest size, where memory costs next to nothing. The residual is what is left over.
"""

from collections.abc import Iterator
from contextlib import ExitStack

from predawn.bench import limits_memory
from predawn.bench.harness import Case, Effort, Row, Stamp, measure
from predawn.bench.store_tables import (
    DIM,
    Plan,
    batches_of,
    filled,
    rows_of,
    store_reader,
    stored_bytes,
    table_name,
)
from predawn.server.request import F32

_DTYPES = ("fp16", "fp32", "bf16", "int8")


def dim_names(plan: Plan) -> list[str]:
    """Cases of `dims`."""
    return [_name(plan, dtype, dim, _entries(plan, dim)) for dtype in _DTYPES for dim in plan.dims]


def scale_names(plan: Plan) -> list[str]:
    """Cases of `entries`."""
    return [f"entries: {_name(plan, 'fp16', DIM, entries)}" for entries in plan.scale]


def _name(plan: Plan, dtype: str, dim: int, entries: int) -> str:
    return f"get {plan.batch:,}, {table_name(dtype, dim, entries)}"


def _entries(plan: Plan, dim: int) -> int:
    return plan.dim_bytes // (4 * dim)


def dims(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """Rows of all sizes, in tables of the same size in bytes."""
    found: list[Row] = []
    for dim in plan.dims:
        entries = _entries(plan, dim)
        rows = rows_of(entries, dim)
        for dtype in _DTYPES:
            found += _read(mark, plan, effort, rows, dtype, _name(plan, dtype, dim, entries))
    return found


def entries(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """Tables of all sizes, each with its limit; then what was predicted of each."""
    found: list[Row] = []
    for count, name in zip(plan.scale, scale_names(plan), strict=True):
        found += _read(mark, plan, effort, rows_of(count, DIM), "fp16", name)
    return [*found, *_predicted(mark, found)]


def _predicted(mark: Stamp, found: list[Row]) -> Iterator[Row]:
    times = [row for row in found if row.metric == "time" and row.limit is not None]
    if len(times) < 2:
        return
    first = times[0]
    assert first.limit is not None
    own_ns = first.value - first.limit
    for row in times:
        assert row.limit is not None
        predicted = row.limit + own_ns
        yield mark.row(row.case, "predicted", predicted, row.unit, n=row.n)
        yield mark.row(row.case, "residual", row.value / predicted - 1, "share", n=row.n)


def _read(mark: Stamp, plan: Plan, effort: Effort, rows: F32, dtype: str, name: str) -> list[Row]:
    if not effort.wants(name):
        return []
    table = filled(rows, dtype)
    batches = batches_of(table.live, plan.batch)
    own = batches.subject("predawn", store_reader(table, batches))
    size = stored_bytes(dtype, rows.shape[1])
    with ExitStack() as stack:
        limit = limits_memory.lookup_limit(stack, len(rows), size)
        case = Case(name, own, limit=limit, work_bytes=size, per="key")
        return measure(mark, [case], effort)
