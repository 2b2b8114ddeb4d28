"""What the machine can do: the figures that every other suite is held against.

memcpy, independent random cache lines, random rows (`numpy.take` with the positions known), a
system call, loopback TCP within a thread and between two processes, and calls into C.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.csrc import _core

_ECHO = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while True:
    data = s.recv(64)
    if not data:
        break
    s.sendall(data)
"""


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """All limits as rows; with `smoke` on tables that fit the cache (figures mean nothing)."""
    table_mib = 4 if smoke else 512
    with _loopback_thread() as same_thread, _loopback_process() as two_processes:
        cases = [
            *_memory(table_mib),
            Case("python call into C", Subject("len", ().__len__)),
            Case("pybind11 call", Subject("record", partial(_core.Histogram().record, 1))),
            Case("system call", Subject("getppid", os.getppid)),
            Case("loopback, one thread", Subject("tcp", same_thread), per="round trip"),
            Case("loopback, two processes", Subject("tcp", two_processes), per="round trip"),
        ]
        return measure(mark, cases, effort)


def _memory(table_mib: int) -> Iterator[Case]:
    rng = np.random.default_rng(1)
    size = table_mib * 2**20
    source = np.ones(size // 4, np.float32)
    block = min(size, 64 * 2**20) // 4
    target = np.empty(block, np.float32)
    yield Case(
        "memcpy",
        Subject("copyto", lambda: np.copyto(target, source[:block]), work=block * 4 // 2**20),
        work_bytes=2**20,
        per="MiB",
    )
    words = source.view(np.uint64)
    yield Case(
        "random cache line",
        _taker(words, _batches(rng, words.size // 8, 1024) * 8),
        work_bytes=64,
        per="line",
    )
    for row_bytes in (128, 256, 512):
        rows = source.reshape(-1, row_bytes // 4)
        yield Case(
            f"random row of {row_bytes} B",
            _taker(rows, _batches(rng, len(rows), 1024)),
            work_bytes=row_bytes,
            per="row",
        )


def _batches(rng: np.random.Generator, size: int, batch: int) -> np.ndarray:
    """[k, batch] positions in 0..size: enough batches that no cache holds what they touch."""
    return rng.integers(0, size, (max(1, min(1000, size // batch)), batch))


def _taker(table: np.ndarray, batches: np.ndarray) -> Subject:
    """Gathers the next batch of positions from `table` at every call."""
    out = np.empty((batches.shape[1], *table.shape[1:]), table.dtype)
    turn = iter(_forever(batches))

    def take() -> object:
        return np.take(table, next(turn), axis=0, out=out, mode="clip")

    return Subject("numpy.take", take, work=batches.shape[1])


def _forever(batches: np.ndarray) -> Iterator[np.ndarray]:
    while True:
        yield from batches


@contextmanager
def _loopback_thread() -> Generator[Callable[[], object], None, None]:
    """A round trip of one byte over TCP with both ends in this thread: no wake-up, CPU only."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def round_trip() -> object:
            near.send(b"x")
            far.send(far.recv(64))
            return near.recv(64)

        yield round_trip


@contextmanager
def _loopback_process() -> Generator[Callable[[], object], None, None]:
    """A round trip of one byte to another process, which has to be woken up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        port = str(listener.getsockname()[1])
        echo = subprocess.Popen([sys.executable, "-S", "-E", "-c", _ECHO, port])
        near, _ = listener.accept()
    with near:
        near.settimeout(20)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def round_trip() -> object:
            near.send(b"x")
            return near.recv(64)

        yield round_trip
    echo.wait(timeout=20)
