"""Rows come back as they were stored: fp32 bit by bit, fp16 as IEEE rounding says.

numpy's float16 is the independent reference; half_test.cpp (test_native.py) compares the two native
conversions bit by bit.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from predawn.csrc._core import EmbeddingCache

F32 = NDArray[np.float32]


def keys_of(n: int) -> NDArray[np.uint64]:
    keys = np.zeros((n, 2), np.uint64)
    keys[:, 0] = np.arange(n, dtype=np.uint64)
    return keys


def through_store(rows: F32, dtype: str, parts: int = 1) -> F32:
    """The rows put and read again, whole."""
    n, values = rows.shape
    # Room for every key, however unevenly the sets fill.
    store = EmbeddingCache.create(
        capacity=16 * n + 64, dim=values // parts, parts=parts, dtype=dtype
    )
    out, ages = np.empty_like(rows), np.empty(n, np.int64)
    assert store.put_many(keys_of(n), rows, 5, 1, 0) == n
    assert store.get_many(keys_of(n), 7, 10, out, ages) == n
    assert (ages == 2).all() and store.check() == []
    return out


any_bits = hnp.arrays(
    np.uint32, st.tuples(st.integers(1, 8), st.integers(1, 41)), elements=st.integers(0, 2**32 - 1)
)


@given(any_bits)
def test_fp32_rows_keep_every_bit(bits: NDArray[np.uint32]) -> None:
    out = through_store(bits.view(np.float32), "fp32")
    assert (out.view(np.uint32) == bits).all()


@given(any_bits)
def test_fp16_rows_round_as_numpy_does(bits: NDArray[np.uint32]) -> None:
    rows = bits.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = rows.astype(np.float16).astype(np.float32)
    out = through_store(rows, "fp16")
    np.testing.assert_array_equal(out, expected)
    assert (np.signbit(out) == np.signbit(rows)).all()


def test_every_half_value_is_kept_exactly() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    rows = halves.astype(np.float32).reshape(-1, 64)
    np.testing.assert_array_equal(through_store(rows, "fp16"), rows)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (2049.0, 2048.0),  # ties go to even: down
        (2051.0, 2052.0),  # and up
        (65519.996, 65504.0),
        (65520.0, np.inf),
        (-65520.0, -np.inf),
        (2.0**-24, 2.0**-24),  # the least subnormal
        (2.0**-25, 0.0),  # half of it: a tie, to even
        (np.nextafter(np.float32(2.0**-25), np.float32(1)), 2.0**-24),
        (2.0**-14 - 2.0**-26, 2.0**-14),  # from subnormal up to the least normal
        (1e-45, 0.0),
        (-0.0, -0.0),
        (np.inf, np.inf),
    ],
)
def test_fp16_edges(value: float, stored: float) -> None:
    for width in (1, 8, 9):  # tail, vector, both
        out = through_store(np.full((1, width), value, np.float32), "fp16")
        assert (out == np.float32(stored)).all()
        assert (np.signbit(out) == np.signbit(np.float32(stored))).all()


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("dim", [1, 3, 8, 64, 100])
def test_nan_marks_of_absent_parts_survive(dtype: str, dim: int) -> None:
    rows = np.zeros((4, 3 * dim), np.float32)
    rows[:, dim:] = np.nan
    out = through_store(rows, dtype, parts=3)
    np.testing.assert_array_equal(out, rows)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize(("dim", "parts"), [(1, 2), (5, 4), (64, 3)])
def test_served_part_is_the_prefix_of_the_whole_row(dtype: str, dim: int, parts: int) -> None:
    store = EmbeddingCache.create(capacity=256, dim=dim, parts=parts, dtype=dtype)
    rows = np.arange(10 * dim * parts, dtype=np.float32).reshape(10, dim * parts)
    store.put_many(keys_of(10), rows, 0, 0, 0)
    served, whole = np.empty((10, dim), np.float32), np.empty_like(rows)
    ages = np.empty(10, np.int64)
    store.get_many(keys_of(10), 0, 0, served, ages)
    store.get_many(keys_of(10), 0, 0, whole, ages)
    np.testing.assert_array_equal(whole, rows)
    np.testing.assert_array_equal(served, rows[:, :dim])
