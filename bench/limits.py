"""What the machine can do: the figures that every other suite is held against.

memcpy, independent random cache lines and rows with and without huge pages, the physical limit of
a lookup in the store by number of entries, a system call, loopback TCP within a thread and between
two processes, and calls into C.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial

from predawn.bench import compiled, limits_memory
from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.bench.limits_memory import ROW_BYTES, Sizes
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
    sizes = limits_memory.SMOKE if smoke else limits_memory.FULL
    parts = list(_parts(mark, sizes, effort))
    rows: list[Row] = []
    for done, part in enumerate(parts):
        effort.progress(done / len(parts))
        rows += part()
    return rows


def _parts(mark: Stamp, sizes: Sizes, effort: Effort) -> Iterator[Callable[[], list[Row]]]:
    """One table in memory at a time."""
    yield lambda: _calls(mark, sizes, effort)
    try:
        compiled.library("limits")
    except compiled.Missing as reason:
        absent = {"native loops": str(reason)}
        case = Case("native loops", Subject("len", ().__len__), absent=absent)
        yield lambda: measure(mark, [case], effort)
        return
    for row_bytes in (64, *ROW_BYTES):
        for huge in (True, False):
            yield partial(_random_rows, mark, sizes, effort, row_bytes, huge)
    for row_bytes in (128, 256):
        for entries in sizes.entries:
            yield partial(_lookups, mark, effort, row_bytes, entries)


def _calls(mark: Stamp, sizes: Sizes, effort: Effort) -> list[Row]:
    with _loopback_thread() as same_thread, _loopback_process() as two_processes:
        cases = [
            limits_memory.memcpy(sizes),
            limits_memory.numpy_rows(sizes),
            Case("python call into C", Subject("len", ().__len__)),
            Case("pybind11 call", Subject("nothing", _core.nothing)),
            Case("system call", Subject("getppid", os.getppid)),
            Case("loopback, one thread", Subject("tcp", same_thread), per="round trip"),
            Case("loopback, two processes", Subject("tcp", two_processes), per="round trip"),
        ]
        return measure(mark, cases, effort)


def _random_rows(
    mark: Stamp, sizes: Sizes, effort: Effort, row_bytes: int, huge: bool
) -> list[Row]:
    what = "random cache line" if row_bytes == 64 else f"random row of {row_bytes} B"
    name = f"{what}, {'huge' if huge else 'small'} pages"
    if not effort.wants(name):
        return []
    with limits_memory.random_rows(sizes.table_bytes, row_bytes, huge=huge) as rows:
        case = Case(name, rows.subject("native"), work_bytes=row_bytes, per="row")
        return measure(mark, [case], effort)


def _lookups(mark: Stamp, effort: Effort, row_bytes: int, entries: int) -> list[Row]:
    name = lookup_name(row_bytes, entries)
    if not effort.wants(name):
        return []
    with limits_memory.lookups(entries, row_bytes) as found:
        case = Case(name, found.subject("native"), work_bytes=row_bytes, per="key")
        return measure(mark, [case], effort)


def lookup_name(row_bytes: int, entries: int) -> str:
    """The case that bounds a read of a store of that many rows."""
    return f"store lookup, row of {row_bytes} B, {entries:,} entries"


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
