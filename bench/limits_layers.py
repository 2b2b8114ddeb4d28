"""What a core can do at most for a small dense layer, measured beside what does one.

The loops are native (bench/native/layers.cpp): products from registers to registers, numbers that
are only read, from wherever in the caches so many lie when they are read again and again, and rows
that are only read, from anywhere in a table.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predawn.bench import compiled
from predawn.bench.harness import Subject
from predawn.server.request import I64

_TRIES = 5
_AT_ONCE = 50  # pieces of work a call, so that what the call itself costs is not measured


def slowest(multiply_adds: int, read_bytes: int, work: int) -> Subject | None:
    """The limit of work that needs so many products and has to read so many bytes: the slower of
    the two alone. work: units that a piece of it counts as. None without a compiler."""
    try:
        library = compiled.library("layers")
    except compiled.Missing:
        return None
    library.layers_multiply_adds.argtypes = [ctypes.c_uint64]
    library.layers_read.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64]
    floats = np.ones(read_bytes // 4 + 32, dtype=np.float32)
    first = floats[-floats.ctypes.data % 64 // 4 :]  # of a cache line
    address, count = first.ctypes.data, read_bytes // 4

    def multiply() -> None:
        library.layers_multiply_adds(multiply_adds * _AT_ONCE)

    def read() -> None:
        assert first is not None  # lives as long as this function
        library.layers_read(address, count, _AT_ONCE)

    slower = multiply if _time_ns(multiply) >= _time_ns(read) else read
    name = f"{multiply_adds} products" if slower is multiply else f"{read_bytes} bytes read"
    return Subject(name, slower, work * _AT_ONCE)


def rows_read(table: NDArray[Any], batches: Sequence[I64]) -> Subject | None:
    """The limit of work that reads rows of `table` [n, d], of whole 64 bytes, at these positions:
    they are asked for ahead, read and no more. All batches in one call. None without a compiler."""
    try:
        library = compiled.library("layers")
    except compiled.Missing:
        return None
    address, count = ctypes.c_void_p, ctypes.c_uint64
    library.layers_read_rows.argtypes = [address, address, count, count]
    at = np.concatenate(batches)
    row_bytes = table.itemsize * table.shape[1]

    def read() -> object:
        return library.layers_read_rows(table.ctypes.data, at.ctypes.data, len(at), row_bytes)

    return Subject("rows read", read, len(at))


def _time_ns(call: Callable[[], None]) -> int:
    best = 1 << 62
    for _ in range(_TRIES):
        start = time.perf_counter_ns()
        call()
        best = min(best, time.perf_counter_ns() - start)
    return best
