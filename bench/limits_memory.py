"""What memory does at most: copies, random lines and rows, and a lookup that looks for nothing.

The loops are native (bench/native/limits.cpp). `Lookups` is the physical limit of a read of the
store: the line of a set, the line before a row, and the row, which is copied out.
"""

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from predawn.bench import compiled
from predawn.bench.harness import Case, Subject
from predawn.server.request import U64

BATCH = 1_000
_BATCHES = 1_000  # more rows than any cache level holds
ROW_BYTES = (128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Sizes:
    """table_bytes: of the tables of lines and rows; entries: of the lookups."""

    table_bytes: int
    copy_bytes: int
    entries: tuple[int, ...]


FULL = Sizes(2**30, 64 * 2**20, (10_000, 100_000, 1_000_000, 4_000_000, 10_000_000))
SMOKE = Sizes(4 * 2**20, 2 * 2**20, (1_000, 10_000))


class Gather(AbstractContextManager["Gather"]):
    """A native table and its loop: copies the rows at random positions, a batch a call."""

    def __init__(self, kind: str, rows: int, row_bytes: int, *arguments: int) -> None:
        """kind: "rows" or "lookups". arguments: of its `create`. Missing, MemoryError."""
        library = compiled.library("limits")
        create, self._destroy = library[f"{kind}_create"], library[f"{kind}_destroy"]
        self._take = library[f"{kind}_take"]
        create.restype = ctypes.c_void_p
        create.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int]
        self._destroy.argtypes = [ctypes.c_void_p]
        self._take.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_uint64, ctypes.c_void_p]
        self._table = create(*arguments)
        if self._table is None:
            raise MemoryError(f"{kind} of {rows} x {row_bytes} B")
        self._positions = _positions(rows)
        self.out = np.empty(BATCH * row_bytes, np.uint8)

    def subject(self, name: str) -> Subject:
        """Copies the next batch at every call."""
        take, table, out = self._take, self._table, self.out.ctypes.data
        first, step = self._positions.ctypes.data, self._positions.strides[0]
        turn = iter(_forever(range(first, first + self._positions.nbytes, step)))
        return Subject(name, lambda: take(table, next(turn), BATCH, out), work=BATCH)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._destroy(self._table)


def random_rows(table_bytes: int, row_bytes: int, *, huge: bool) -> Gather:
    """Rows in one table on huge or on small pages."""
    return Gather("rows", table_bytes // row_bytes, row_bytes, table_bytes, row_bytes, int(huge))


def lookups(entries: int, row_bytes: int) -> Gather:
    """The store's lookups on huge pages, less the looking."""
    return Gather("lookups", entries, row_bytes, entries, row_bytes, 0)


def lookup_limit(stack: ExitStack, entries: int, row_bytes: int) -> Subject | None:
    """The limit of reads, until `stack` ends; None where it cannot be compiled."""
    try:
        return stack.enter_context(lookups(entries, row_bytes)).subject("lookup")
    except compiled.Missing:
        return None


def _positions(rows: int) -> U64:
    """uint64 [batches, BATCH]."""
    batches = max(1, min(_BATCHES, 4 * rows // BATCH))
    return np.random.default_rng(1).integers(0, rows, (batches, BATCH), np.uint64)


def _forever(values: range) -> Iterator[int]:
    while True:
        yield from values


def memcpy(sizes: Sizes) -> Case:
    """Copies a block to another, both larger than the caches."""
    count = sizes.copy_bytes // 4
    source, target = np.ones(count, np.float32), np.empty(count, np.float32)
    mib = sizes.copy_bytes // 2**20
    copy = Subject("copyto", lambda: np.copyto(target, source), work=mib)
    return Case("memcpy", copy, work_bytes=2**20, per="MiB")


def numpy_rows(sizes: Sizes) -> Case:
    """Rows of 256 B by numpy.take."""
    table = np.ones((sizes.table_bytes // 256, 64), np.float32)
    out = np.empty((BATCH, 64), np.float32)
    turn = iter(_batches_forever(_positions(len(table)).astype(np.int64)))
    take = Subject(
        "numpy.take", lambda: np.take(table, next(turn), axis=0, out=out, mode="clip"), BATCH
    )
    return Case("random row of 256 B, numpy.take", take, work_bytes=256, per="row")


def _batches_forever(batches: np.ndarray) -> Iterator[np.ndarray]:
    while True:
        yield from batches
