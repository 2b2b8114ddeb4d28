"""Rows come back as they were stored: fp32 bit by bit, the others rounded as they promise.

numpy is the independent reference; rows_test.cpp and convert_test.cpp (test_native.py) compare the
native conversions with one another bit by bit.
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


def to_bf16(rows: F32) -> F32:
    """The nearest bf16, ties to even, of numbers; NaN stays NaN."""
    bits = rows.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return np.where(np.isnan(rows), rows, rounded.astype(np.uint32).view(np.float32))


@given(any_bits)
def test_bf16_rows_round_to_the_nearest_even(bits: NDArray[np.uint32]) -> None:
    rows = bits.view(np.float32)
    out = through_store(rows, "bf16")
    np.testing.assert_array_equal(out, to_bf16(rows))
    assert (np.signbit(out) == np.signbit(rows)).all()
    assert (out.view(np.uint32) & 0xFFFF == 0).all()


numbers = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.sampled_from([4, 32, 68])),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(numbers)
def test_int8_values_are_off_by_half_a_step_of_their_part_at_most(rows: F32) -> None:
    parts = rows.reshape(rows.shape[0], 4, -1)
    steps = np.abs(parts).max(axis=2, keepdims=True) / 127
    out = through_store(rows, "int8", parts=4).reshape(parts.shape)
    # Parts below 127 * 2^-126 are zeros.
    assert (np.abs(out - parts) <= np.maximum(steps * 0.5001, 1.5e-36)).all()
    # The largest value of a part is kept, and zero is zero.
    np.testing.assert_allclose(
        np.abs(out).max(axis=2), np.abs(parts).max(axis=2), rtol=1e-6, atol=2e-36
    )
    assert (out[parts == 0] == 0).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_int8_part_with_a_value_it_cannot_hold_is_absent(wrong: float) -> None:
    rows = np.ones((2, 6), np.float32)
    rows[1, 4] = wrong
    out = through_store(rows, "int8", parts=2)
    np.testing.assert_array_equal(out[0], rows[0])
    np.testing.assert_array_equal(out[1], [1, 1, 1, np.nan, np.nan, np.nan])


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


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("dim", [1, 3, 8, 64, 100])
def test_nan_marks_of_absent_parts_survive(dtype: str, dim: int) -> None:
    rows = np.zeros((4, 3 * dim), np.float32)
    rows[:, dim:] = np.nan
    out = through_store(rows, dtype, parts=3)
    np.testing.assert_array_equal(out, rows)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize(("dim", "parts"), [(1, 2), (5, 4), (64, 3)])
def test_served_part_is_the_prefix_of_the_whole_row(dtype: str, dim: int, parts: int) -> None:
    store = EmbeddingCache.create(capacity=256, dim=dim, parts=parts, dtype=dtype)
    # Numbers that every format keeps: whole, with 127 in each part.
    of_parts = np.arange(10 * parts * dim, dtype=np.float32).reshape(10, parts, dim) % 128
    of_parts[:, :, 0] = 127
    rows = of_parts.reshape(10, -1)
    store.put_many(keys_of(10), rows, 0, 0, 0)
    served, whole = np.empty((10, dim), np.float32), np.empty_like(rows)
    ages = np.empty(10, np.int64)
    store.get_many(keys_of(10), 0, 0, served, ages)
    store.get_many(keys_of(10), 0, 0, whole, ages)
    np.testing.assert_array_equal(whole, rows)
    np.testing.assert_array_equal(served, rows[:, :dim])
