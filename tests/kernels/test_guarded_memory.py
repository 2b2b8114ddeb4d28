"""No kernel reads or writes a byte past its tensors: the next page is not mapped.

The kernels run in a process of their own (Triton's interpreter), which a wrong access kills.
"""

import ctypes
import mmap
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest
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


def run_kernels() -> None:
    """Both kernels at shapes that fill no tile; what they allocate is guarded too."""
    import interpreted

    from predawn.kernels.bag_pool_triton import bag_pool_triton
    from predawn.kernels.cross_lowrank_triton import cross_lowrank_triton

    assert interpreted.DEVICE == "cpu"
    torch.empty_like = lambda like: guarded(like.shape, like.dtype)
    torch.empty = lambda *size, dtype, device: guarded(size, dtype)
    for dtype in (torch.float32, torch.float16):
        x0, u, v, bias = (
            torch.ones(s, dtype=dtype) for s in ((7, 5), (2, 5, 3), (2, 5, 3), (2, 5))
        )
        cross_lowrank_triton(copied(x0), copied(u), copied(v), copied(bias), copied(x0))
        first_row = copied(torch.tensor([0, 3, 5]))
        ids = copied(torch.tensor([2, 7, -1, 1, 1, 4]))
        for offsets in ([0, 1, 3, 4, 6], [0, 0, 0, 0, 6], [0, 1, 3, 4, 900]):
            rows = copied(torch.ones(5, 3, dtype=dtype))
            bag_pool_triton(rows, first_row, ids, copied(torch.tensor(offsets)), True)


def read_past_the_end() -> None:
    """What the test must catch: one element too many."""
    tensor = guarded((3,), torch.float32)
    ctypes.string_at(tensor.data_ptr(), 16)


def _run(name: str) -> int:
    here = "import sys; sys.path[:0] = sys.argv[1:3]; import test_guarded_memory as t; t."
    tests = __file__.rsplit("/", 2)[0]
    command = [sys.executable, "-c", f"{here}{name}()", tests, f"{tests}/kernels"]
    return subprocess.run(command, timeout=120, check=False).returncode


def test_planted_read_past_the_end_is_caught() -> None:
    assert _run("read_past_the_end") == -signal.SIGSEGV


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs Triton to interpret, not a GPU")
def test_kernels_stay_inside_their_tensors() -> None:
    pytest.importorskip("triton", reason="needs Triton")
    assert _run("run_kernels") == 0
