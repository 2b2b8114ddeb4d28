"""Memory that ends at a page nobody may touch: an access past a tensor kills the process.

So kernels run in a process of their own (Triton's interpreter): `run(__file__, "name")` calls the
function `name` of a test file there and returns the exit status, -SIGSEGV for such an access.
Inside, `copied` gives a tensor's values in guarded memory, and `guard_allocations()` makes what a
kernel's host wrapper allocates guarded too.
"""

import ctypes
import importlib.util
import mmap
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

_KEPT: list[mmap.mmap] = []


def guarded(size: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor whose last byte is the last one before a page that cannot be touched."""
    count = 1
    for extent in size:
        count *= extent
    used = count * dtype.itemsize
    pages = -(-used // mmap.PAGESIZE) + 1
    area = mmap.mmap(-1, pages * mmap.PAGESIZE)
    _KEPT.append(area)
    end = (pages - 1) * mmap.PAGESIZE
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.mprotect(ctypes.c_void_p(start + end), ctypes.c_size_t(mmap.PAGESIZE), 0)
    assert not failed, ctypes.get_errno()
    return torch.frombuffer(area, dtype=dtype, count=count, offset=end - used).view(tuple(size))


def copied(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in guarded memory."""
    return guarded(tensor.shape, tensor.dtype).copy_(tensor)


def guard_allocations() -> None:
    """torch.empty, empty_like and full give guarded memory for the rest of the process."""

    def full(
        size: Sequence[int], value: float, *, device: object, dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        return guarded(size, dtype).fill_(value)

    def empty(*size: int | Sequence[int], dtype: torch.dtype, device: object) -> torch.Tensor:
        given = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        return guarded(given, dtype)  # type: ignore[arg-type]

    torch.empty_like = lambda like: guarded(like.shape, like.dtype)  # type: ignore[assignment]
    torch.empty = empty  # type: ignore[assignment]
    torch.full = full  # type: ignore[assignment]


def run(test_file: str, name: str) -> int:
    """The exit status of `name()` of a test file, in a process of its own."""
    tests = str(Path(__file__).parent)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import guarded_memory as g; g.call()"
    command = [sys.executable, "-c", code, tests, test_file, name]
    return subprocess.run(command, timeout=120, check=False).returncode


def call() -> None:
    """The process of its own: function and file are named on its command line."""
    _, _, test_file, name = sys.argv
    spec = importlib.util.spec_from_file_location("guarded_test", test_file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    getattr(module, name)()
