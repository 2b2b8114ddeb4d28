"""Runs a kernel's programs last to first in Triton's interpreter: a last-writer race shows."""

from collections.abc import Iterator
from contextlib import contextmanager

from interpreted import DEVICE, triton


@contextmanager
def reversed_programs() -> Iterator[None]:
    """Programs run in reverse order inside (in the interpreter; a GPU keeps no order anyway)."""
    if DEVICE != "cpu":
        yield
        return
    builder = triton.runtime.interpreter.InterpreterBuilder
    forward = builder.set_grid_idx

    def backward(self: object, x: int, y: int, z: int) -> None:
        dims = self.grid_dim  # type: ignore[attr-defined]
        forward(self, *(size - 1 - at for size, at in zip(dims, (x, y, z), strict=True)))

    builder.set_grid_idx = backward
    try:
        yield
    finally:
        builder.set_grid_idx = forward
