"""Tables for the store suite: filled with known rows, and batches of the keys that are in them.

Ids are spread over all of 64 bits, so that no peer profits from keys that count up. Row values are
exact in every dtype of the store, so that all subjects must give back the same bytes.
"""

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predawn.bench.harness import BenchError, Row, Stamp, Subject
from predawn.csrc import _core
from predawn.server.request import F32, I64, U64

DIM = 64
NOW_MS = 1_000_000
TTL_MS = 60_000
SPARE = 1.25  # capacity over entries: a set-associative table is never filled to the brim
_TOUCHED = 1_000_000  # keys that the batches of a case have in all: more than a cache level holds
_BATCHES_MIN, _BATCHES_MAX = 16, 20_000
_PART = 100_000  # rows written at a time
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the suite. entries: of the main tables; small: of the Python caches; counts: keys a
    batch; slow_count: a batch of all peers; dims: with `dim_bytes` of rows each; seconds: of one
    turn of threads and processes; file_bytes: of the table that is created and attached."""

    entries: int
    small: int
    counts: tuple[int, ...]
    batch: int
    dims: tuple[int, ...]
    dim_bytes: int
    scale: tuple[int, ...]
    seconds: float
    turns: int
    file_bytes: int
    candidates: int


FULL = Plan(
    entries=4_000_000,
    small=200_000,
    counts=(1, 10, 100, 1_000, 10_000),
    batch=1_000,
    dims=(32, 64, 128, 256, 512, 1024),
    dim_bytes=2**28,
    scale=(10_000, 100_000, 1_000_000, 4_000_000, 10_000_000),
    seconds=0.4,
    turns=5,
    file_bytes=4 * 2**30,
    candidates=500,
)
SMOKE = Plan(
    entries=4_000,
    small=1_000,
    counts=(1, 100),
    batch=100,
    dims=(32, 64),
    dim_bytes=2**18,
    scale=(1_000, 4_000),
    seconds=0.02,
    turns=2,
    file_bytes=2**22,
    candidates=50,
)


def ids_of(entries: int, start: int = 0) -> U64:
    """uint64 [entries]: distinct ids."""
    return np.arange(start, start + entries, dtype=np.uint64) * _SPREAD


def keys_of(ids: U64) -> U64:
    """uint64 [n, 2]: the store's keys of integer ids."""
    keys = np.zeros((len(ids), 2), np.uint64)
    keys[:, 0] = ids
    return keys


def rows_of(entries: int, dim: int) -> F32:
    """float32 [entries, dim] of eighths from -16 to 16: exact in float16 and bfloat16."""
    rows = np.empty((entries, dim), np.float32)
    rng = np.random.default_rng(entries)
    for start in range(0, entries, _PART):
        part = rows[start : start + _PART]
        np.divide(rng.integers(-127, 128, part.shape, np.int8), np.float32(8), out=part)
    return rows


def new_cache(
    capacity: int,
    dim: int,
    dtype: str,
    *,
    path: Path | None = None,
    placement: str = "hashed",
    threads: int = 1,
) -> _core.EmbeddingCache:
    """An empty store with a fixed seed, on huge pages where the kernel gives them."""
    return _core.EmbeddingCache.create(
        None if path is None else str(path),
        capacity=capacity,
        dim=dim,
        dtype=dtype,
        seed=bytes(32),
        huge_pages=True,
        placement=placement,
        threads=threads,
    )


@contextmanager
def scratch() -> Generator[Path, None, None]:
    """A folder for stores that have a path, in memory where there is a file system for it."""
    memory = Path("/dev/shm")
    within = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="predawn-", dir=within) as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class Table:
    """A store of `entries` and what it holds. keys: uint64 [entries, 2]; rows: float32 [entries,
    dim], what key i holds; live: int64, the positions of the keys that are found."""

    cache: _core.EmbeddingCache
    dtype: str
    ids: U64
    keys: U64
    rows: F32
    live: I64

    @property
    def name(self) -> str:
        """What cases say of it: "fp16 x 64, 4,000,000 entries"."""
        return table_name(self.dtype, self.rows.shape[1], len(self.ids))

    @property
    def row_bytes(self) -> int:
        """Of a row as it is stored."""
        return stored_bytes(self.dtype, self.rows.shape[1])


def huge_row(mark: Stamp, case: str, cache: _core.EmbeddingCache) -> Row:
    """The share of a store that lies on huge pages: without them it is slower."""
    stats = cache.stats()
    share = stats["huge_bytes"] / stats["bytes"]
    return mark.row(case, "huge_share", share, "share", "higher", n=1)


def table_name(dtype: str, dim: int, entries: int) -> str:
    """As `Table.name`, before there is a table."""
    return f"{dtype} x {dim}, {entries:,} entries"


def stored_bytes(dtype: str, dim: int) -> int:
    """Bytes of a row of `dim` values."""
    return dim * {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[dtype]


def filled(
    rows: F32, dtype: str, *, path: Path | None = None, capacity: int = 0, threads: int = 1
) -> Table:
    """A store of `rows`; BenchError when it lost more than a set-associative table may."""
    entries, dim = rows.shape
    cache = new_cache(capacity or int(entries * SPARE), dim, dtype, path=path, threads=threads)
    ids = ids_of(entries)
    keys = keys_of(ids)
    live = fill(cache, keys, rows)
    if len(live) < entries * 0.95:
        raise BenchError(f"store: only {len(live)} of {entries} entries found after the fill")
    return Table(cache, dtype, ids, keys, rows, live)


def fill(cache: _core.EmbeddingCache, keys: U64, rows: F32) -> I64:
    """Writes all rows; the positions of those that are found afterwards."""
    found = np.empty(len(keys), np.int64)
    out = np.empty((_PART, rows.shape[1]), np.float32)
    for start in range(0, len(keys), _PART):
        part = slice(start, start + _PART)
        cache.put_many(keys[part], rows[part], NOW_MS, 1, 0)
    for start in range(0, len(keys), _PART):
        part = slice(start, start + _PART)
        asked = keys[part]
        cache.get_many(asked, NOW_MS, TTL_MS, out[: len(asked)], found[part])
    return np.flatnonzero(found >= 0)


@dataclass(frozen=True, slots=True)
class Batches:
    """Random keys of live entries. positions: int64 [batches, n]."""

    positions: NDArray[np.int64]

    def subject(self, name: str, call: Callable[[int], object]) -> Subject:
        """Calls `call` with the number of the batch: 0, 1, ... and round again."""
        count, n = self.positions.shape
        turn = iter(round_and_round(range(count)))
        return Subject(name, lambda: call(next(turn)), work=n)


def batches_of(live: I64, n: int) -> Batches:
    """Batches of n, enough of them that no cache level holds what they touch."""
    count = min(_BATCHES_MAX, max(_BATCHES_MIN, _TOUCHED // n), max(1, 4 * len(live) // n))
    return Batches(np.random.default_rng(n).choice(live, (count, n)))


def round_and_round(values: Sequence[int]) -> Iterator[int]:
    """The values, again and again."""
    while True:
        yield from values


def store_reader(table: Table, batches: Batches) -> Callable[[int], F32]:
    """Reads a batch into the caller's buffers, with ages and a TTL."""
    n = batches.positions.shape[1]
    out, ages = np.empty((n, table.rows.shape[1]), np.float32), np.empty(n, np.int64)
    get_many, keys = table.cache.get_many, list(table.keys[batches.positions])

    def read(i: int) -> F32:
        get_many(keys[i], NOW_MS, TTL_MS, out, ages)
        return out

    return read
