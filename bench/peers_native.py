"""C++ maps and the store's own C++, behind one shape: a library of bench/native, a batch a call.

All get huge pages and the same keys in the same order, and are called the same way, so that what
differs is the map.
"""

import ctypes
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from predawn.bench import compiled
from predawn.bench.harness import BenchError
from predawn.server.request import F32, U64

PEERS = {
    "boost-bulk-visit": ("peer_boost",),
    "tbb": ("peer_tbb", "-ltbb"),
    "libcuckoo": ("peer_libcuckoo",),
}
UNORDERED = ("boost-bulk-visit",)  # gives rows in an order of its own
DIM = 64  # PREDAWN_ROW_FLOATS of bench/native/reader.hpp

Read = Callable[[int], F32]


@dataclass(frozen=True, slots=True)
class Reader:
    """A filled map. library: exports what bench/native/reader.hpp says."""

    name: str
    library: ctypes.CDLL
    map: int

    def of(self, batches: U64) -> Read:
        """Reads batch i of uint64 [batches, n] into one float32 [n, 64]; BenchError when a key is
        not found. Addresses are taken beforehand: they cost as much as a few keys."""
        batches = np.ascontiguousarray(batches)
        n, step, first = batches.shape[1], batches.strides[0], batches.ctypes.data
        out = np.empty((n, DIM), np.float32)
        name, read, table, target = self.name, self.library.reader_read, self.map, out.ctypes.data

        def call(i: int, kept: U64 = batches) -> F32:
            found = read(table, first + i % len(kept) * step, n, target)
            if found != n:
                raise BenchError(f"store: {name} found {found} of {n} keys")
            return out

        return call


@dataclass(frozen=True, slots=True)
class Peers:
    """readers: by the peer's name; absent: name -> why."""

    readers: dict[str, Reader] = field(default_factory=dict[str, Reader])
    absent: dict[str, str] = field(default_factory=dict[str, str])


@contextmanager
def opened(ids: U64, rows: F32) -> Generator[Peers, None, None]:
    """All peers that can be compiled here, each holding rows[i] (float32 [n, 64]) under ids[i]."""
    peers = Peers()
    with ExitStack() as stack:
        for name, arguments in PEERS.items():
            try:
                library = compiled.library(*arguments)
            except compiled.Missing as reason:
                peers.absent[name] = str(reason)
                continue
            peers.readers[name] = stack.enter_context(filled(name, library, ids, rows))
        yield peers


@contextmanager
def filled(name: str, library: ctypes.CDLL, ids: U64, rows: F32) -> Generator[Reader, None, None]:
    """The map of a library with rows[i] under ids[i]; its memory is given back at the end."""
    library.reader_create.restype = ctypes.c_void_p
    library.reader_create.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p]
    table = library.reader_create(len(ids), ids.ctypes.data, rows.ctypes.data)
    if table is None:
        raise BenchError(f"store: no memory for {len(ids):,} rows in {name}")
    with _reader(name, library, table) as reader:
        yield reader


@contextmanager
def attached(path: Path) -> Generator[Reader, None, None]:
    """The store at `path`, read from C++; its batches are keys, uint64 [batches, n, 2]. Missing."""
    library = compiled.library("store_reader")
    library.store_attach.restype = ctypes.c_void_p
    library.store_attach.argtypes = [ctypes.c_char_p]
    store = library.store_attach(str(path).encode())
    if store is None:
        raise BenchError(f"store: {path} cannot be attached from C++")
    with _reader("predawn", library, store) as reader:
        yield reader


@contextmanager
def _reader(name: str, library: ctypes.CDLL, table: int) -> Generator[Reader, None, None]:
    library.reader_destroy.argtypes = [ctypes.c_void_p]
    library.reader_read.restype = ctypes.c_uint64
    library.reader_read.argtypes = [*[ctypes.c_void_p] * 2, ctypes.c_uint64, ctypes.c_void_p]
    try:
        yield Reader(name, library, table)
    finally:
        library.reader_destroy(table)
