"""What it costs that no writer keeps another waiting: puts as they are, and under a lock per set.

The peer (bench/native/put_peer.cpp) uses the store's own layout, slots, policy and prefetches. It
has no journal and survives no kill: the cheapest that a locked writer can be.
"""

import ctypes
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from predawn.bench import compiled
from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.bench.store_tables import DIM, Plan, ids_of, keys_of
from predawn.server.request import F32, U64

_SPARE = 1.25  # capacity over entries
_PEER = "locked"


def names(plan: Plan) -> list[str]:
    """Cases of `locks`."""
    return [f"put {plan.batch:,} lock-free, fp16 x {DIM}, {plan.entries:,} entries"]


def locks(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """Batches in C++, one thread; the keys are there after the first round."""
    name = names(plan)[0]
    batches = keys_of(ids_of(plan.entries // plan.batch * plan.batch))
    batches = batches.reshape(-1, plan.batch, 2)
    rows = np.random.default_rng(1).standard_normal((plan.batch, DIM), np.float32)
    with ExitStack() as stack:
        try:
            library = _library()
        except compiled.Missing as reason:
            absent = {_PEER: str(reason)}
            nothing = Subject("predawn", lambda: None)
            return measure(mark, [Case(name, nothing, absent=absent, per="key")], effort)
        own, peer = (
            _writer(stack, library, put, int(plan.entries * _SPARE), batches, rows)
            for put in (library.writer_put, library.writer_put_locked)
        )
        subjects = (Subject("predawn", own, plan.batch), Subject(_PEER, peer, plan.batch))
        return measure(mark, [Case(name, subjects[0], peers=subjects[1:], per="key")], effort)


def _library() -> ctypes.CDLL:
    library = compiled.library("put_peer")
    library.writer_create.restype = ctypes.c_void_p
    library.writer_create.argtypes = [ctypes.c_uint64, ctypes.c_uint32]
    library.writer_destroy.argtypes = [ctypes.c_void_p]
    for put in (library.writer_put, library.writer_put_locked):
        put.restype = ctypes.c_uint64
        put.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p]
    return library


def _writer(
    stack: ExitStack,
    library: ctypes.CDLL,
    put: Callable[[int, int, int, int], int],
    capacity: int,
    batches: U64,
    rows: F32,
) -> Callable[[], int]:
    """Puts the next batch of uint64 [k, n, 2] into a store of its own, filled beforehand."""
    writer = library.writer_create(capacity, DIM)
    if not writer:
        raise MemoryError(f"no memory for a store of {capacity} entries")
    stack.callback(library.writer_destroy, writer)
    first, step, n = batches.ctypes.data, batches.strides[0], batches.shape[1]
    target, turn = rows.ctypes.data, 0

    def write(kept: U64 = batches) -> int:
        nonlocal turn
        turn = (turn + 1) % len(kept)
        return put(writer, first + turn * step, n, target)

    for _ in range(len(batches)):
        write()
    return write
