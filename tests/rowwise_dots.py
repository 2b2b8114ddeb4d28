"""Products in Triton's interpreter that add every row of a tile alike, as tensor cores do.

The interpreter calls BLAS, whose sums may depend on where in the tile a row is; tests of what must
be equal to the last bit run in this.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from interpreted import DEVICE, triton


@contextmanager
def rowwise_dots() -> Iterator[None]:
    """Inside, `tl.dot` adds in ascending order of the inner dimension (on a GPU: no change)."""
    if DEVICE != "cpu":
        yield
        return
    builder = triton.runtime.interpreter.InterpreterBuilder
    by_blas = builder.create_dot

    def in_order(self: object, a, b, d, *options: object):  # type: ignore[no-untyped-def]
        product = (a.data[:, :, None] * b.data[None]).sum(axis=1, dtype=d.data.dtype)
        return type(d)(product + d.data, d.dtype.scalar)

    builder.create_dot = in_order
    try:
        yield
    finally:
        builder.create_dot = by_blas
