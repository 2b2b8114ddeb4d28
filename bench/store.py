"""The native store: reads and writes of key batches against what numpy and a dict can do.

The limit is one row of a `numpy.take` of 1,000 rows whose positions are known (for writes: of an
assignment to them): it finds nothing, keeps no ages, and only copies.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from predawn.bench import peers
from predawn.bench.harness import BenchError, Case, Effort, Row, Stamp, Subject, measure
from predawn.csrc import _core
from predawn.server.request import F32, I64, U64

_DIM = 64
_NOW_MS = 1_000_000
_SPARE = 1.25  # capacity over entries: a set-associative table is never filled to the brim
_TOUCHED = 100_000  # keys that the batches of a case have in all: more than a cache level holds
_BATCHES_MIN = 16
_LIMIT_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class _Filled:
    """A table of `entries` live keys, and the same rows in arrays.

    keys: uint64 [entries, 2]; rows: float32 [entries, dim], what key i holds; live: positions of
    the keys that are found; index: key -> position; copy, written: what the peers write to.
    """

    name: str
    cache: _core.EmbeddingCache
    keys: U64
    rows: F32
    live: I64
    index: dict[int, int]
    copy: F32
    written: I64


@dataclass(frozen=True, slots=True)
class _Batches:
    """Random keys of live entries. positions: int64 [batches, n]; keys: uint64 [batches, n, 2]."""

    positions: I64
    keys: U64
    ids: list[list[int]]

    def subject(self, name: str, call: Callable[[int], object]) -> Subject:
        """Calls `call` with the number of the batch: 0, 1, ... and round again."""
        count, n = self.positions.shape
        turn = iter(_round_and_round(count))
        return Subject(name, lambda: call(next(turn)), work=n)


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """get_many and put_many of 1 to 10,000 keys in tables of 100,000 and 1,000,000 entries."""
    sizes = (2_000,) if smoke else (100_000, 1_000_000)
    counts = (1, 100) if smoke else (1, 10, 100, 1_000, 10_000)
    rows: list[Row] = []
    for entries in sizes:
        for dtype in ("fp16", "fp32"):
            table = _filled(entries, dtype)
            cases = [case for n in counts for case in (_get(table, n), _put(table, n))]
            rows += measure(mark, [*cases, _general_caches(table, counts[-2])], effort)
    return rows


def _filled(entries: int, dtype: str) -> _Filled:
    rng = np.random.default_rng(entries)
    cache = _core.EmbeddingCache.create(
        capacity=int(entries * _SPARE), dim=_DIM, dtype=dtype, seed=bytes(32)
    )
    rows = rng.standard_normal((entries, _DIM), np.float32).astype(np.float16).astype(np.float32)
    keys = np.zeros((entries, 2), np.uint64)
    keys[:, 0] = np.arange(entries)
    cache.put_many(keys, rows, _NOW_MS, 1, 0)
    ages = np.empty(entries, np.int64)
    cache.get_many(keys, _NOW_MS, 1000, np.empty_like(rows), ages)
    live = np.flatnonzero(ages >= 0)
    if len(live) < entries * 0.98:
        raise BenchError(f"store: only {len(live)} of {entries} entries found after the fill")
    index = {key: position for position, key in enumerate(keys[:, 0].tolist())}
    name = f"{dtype} x {_DIM}, {entries:,} entries"
    written = np.zeros(entries, np.int64)
    return _Filled(name, cache, keys, rows, live, index, rows.copy(), written)


def _batches(table: _Filled, n: int) -> _Batches:
    count = max(_BATCHES_MIN, _TOUCHED // n)
    positions = np.random.default_rng(n).choice(table.live, (count, n))
    return _Batches(positions, table.keys[positions], table.keys[positions, 0].tolist())


def _round_and_round(count: int) -> Iterator[int]:
    while True:
        yield from range(count)


def _get(table: _Filled, n: int) -> Case:
    batches = _batches(table, n)
    known, with_dict = _numpy_take(table, batches, n), _dict_take(table, batches, n)
    limit = _batches(table, _LIMIT_BATCH)
    return Case(
        f"get {n:,}, {table.name}",
        batches.subject("predawn", _native_get(table, batches, n)),
        peers=(
            batches.subject("numpy.take, positions known", known),
            batches.subject("dict + numpy.take", with_dict),
        ),
        limit=limit.subject("numpy.take", _numpy_take(table, limit, _LIMIT_BATCH)),
        same=("numpy.take, positions known", "dict + numpy.take"),
        per="key",
    )


def _native_get(table: _Filled, batches: _Batches, n: int) -> Callable[[int], F32]:
    out, ages = np.empty((n, _DIM), np.float32), np.empty(n, np.int64)
    get_many, keys = table.cache.get_many, list(batches.keys)

    def read(i: int) -> F32:
        get_many(keys[i], _NOW_MS, 1000, out, ages)
        return out

    return read


def _numpy_take(table: _Filled, batches: _Batches, n: int) -> Callable[[int], F32]:
    out = np.empty((n, _DIM), np.float32)
    rows, positions = table.rows, list(batches.positions)
    return lambda i: np.take(rows, positions[i], axis=0, out=out, mode="clip")


def _dict_take(table: _Filled, batches: _Batches, n: int) -> Callable[[int], F32]:
    out = np.empty((n, _DIM), np.float32)
    rows, index, ids = table.rows, table.index, batches.ids
    return lambda i: np.take(rows, [index[k] for k in ids[i]], axis=0, out=out, mode="clip")


def _put(table: _Filled, n: int) -> Case:
    batches = _batches(table, n)
    limit = _batches(table, _LIMIT_BATCH)
    return Case(
        f"put {n:,}, {table.name}",
        batches.subject("predawn", _native_put(table, batches)),
        peers=(batches.subject("dict + rows[positions] =", _dict_put(table, batches)),),
        limit=limit.subject("rows[positions] =", _numpy_put(table, limit)),
        same=("dict + rows[positions] =",),
        per="key",
    )


def _native_put(table: _Filled, batches: _Batches) -> Callable[[int], int]:
    put_many, keys, values = table.cache.put_many, list(batches.keys), _values(table, batches)
    return lambda i: put_many(keys[i], values[i], _NOW_MS, 1, 0)


def _values(table: _Filled, batches: _Batches) -> list[F32]:
    """What the keys of each batch hold already: writing it again changes nothing."""
    return list(table.rows[batches.positions])


def _numpy_put(table: _Filled, batches: _Batches) -> Callable[[int], int]:
    copy, positions, values = table.copy, list(batches.positions), _values(table, batches)

    def write(i: int) -> int:
        copy[positions[i]] = values[i]
        return len(positions[i])

    return write


def _dict_put(table: _Filled, batches: _Batches) -> Callable[[int], int]:
    copy, written, index = table.copy, table.written, table.index
    ids, values = batches.ids, _values(table, batches)

    def write(i: int) -> int:
        positions = [index[key] for key in ids[i]]
        copy[positions] = values[i]
        written[positions] = _NOW_MS
        return len(positions)

    return write


def _general_caches(table: _Filled, n: int) -> Case:
    """The same read from general-purpose caches, where they are installed."""
    batches = _batches(table, n)
    readers = peers.readers(table.rows, table.live.tolist())
    return Case(
        f"get {n:,} from caches, {table.name}",
        batches.subject("predawn", _native_get(table, batches, n)),
        peers=tuple(_reader(batches, name, read) for name, read in readers.items()),
        same=tuple(readers),
        absent=peers.absent(),
        per="key",
    )


def _reader(batches: _Batches, name: str, read: Callable[[list[int]], F32]) -> Subject:
    ids = batches.ids
    return batches.subject(name, lambda i: read(ids[i]))
