"""Averages and rounding have the bits of their numpy twin, whatever the numbers."""

from typing import Any

import numpy as np
import pytest
import stabilise_twin as twin
from hypothesis import given
from hypothesis import strategies as st

from predawn.csrc._layers import average_quantise, exponential_quantise, quantise
from predawn.server.request import F32

DTYPES = ("fp32", "fp16", "bf16", "int8")
numbers = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-8, 8, width=32),
    st.sampled_from([0.0, -0.0, 1e-45, -1.2e-38, 65_504.0, 65_520.0, -70_000.0, 3.4e38]),
)


def draw_parts(data: st.DataObject, n: int, parts: int, dim: int, absent: bool) -> F32:
    """float32 [n, parts * dim]; whole parts are NaN where absent ones may be."""
    flat = data.draw(st.lists(numbers, min_size=n * parts * dim, max_size=n * parts * dim))
    values = np.array(flat, dtype=np.float32).reshape(n, parts, dim)
    if absent:
        gone = data.draw(st.lists(st.booleans(), min_size=n * parts, max_size=n * parts))
        values[np.array(gone, dtype=bool).reshape(n, parts)] = np.nan
    return values.reshape(n, parts * dim)


def same_bits(a: F32, b: F32) -> bool:
    """NaNs are all alike, -0.0 and 0.0 are not."""
    one, other = (np.where(np.isnan(x), np.float32(np.nan), x).astype(np.float32) for x in (a, b))
    return one.tobytes() == other.tobytes()


@given(st.data(), st.sampled_from(DTYPES), st.integers(1, 20), st.integers(0, 4), st.integers(0, 3))
def test_means_have_the_bits_of_the_twin(
    data: st.DataObject, dtype: str, dim: int, n: int, kept: int
) -> None:
    raw = draw_parts(data, n, 1, dim, absent=False)
    previous = draw_parts(data, n, kept, dim, absent=True)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = twin.compress(twin.average(raw, previous), dtype, dim)
    out = np.full((n, (kept + 1) * dim), 7, dtype=np.float32)
    average_quantise(raw, previous, out, dtype)
    assert same_bits(out, expected)


@given(
    st.data(),
    st.sampled_from(DTYPES),
    st.integers(1, 20),
    st.integers(0, 4),
    st.floats(0.0078125, 1, width=32),
)
def test_exponential_means_have_the_bits_of_the_twin(
    data: st.DataObject, dtype: str, dim: int, n: int, weight: float
) -> None:
    raw = draw_parts(data, n, 1, dim, absent=False)
    before = draw_parts(data, n, 1, dim, absent=True)
    with np.errstate(over="ignore", invalid="ignore"):
        averaged = twin.average_exponentially(raw, before, weight)
        expected = twin.compress(averaged, dtype, dim)
    out = np.full((n, dim), 7, dtype=np.float32)
    exponential_quantise(raw, before, weight, out, dtype)
    assert same_bits(out, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_random_rows_have_the_bits_of_the_twin(dtype: str) -> None:
    rng = np.random.default_rng(0)
    raw = (rng.normal(size=(200, 64)) * 10.0 ** rng.integers(-6, 6, (200, 1))).astype(np.float32)
    previous = rng.normal(size=(200, 128)).astype(np.float32)
    previous[rng.random(200) < 0.3, 64:] = np.nan
    out = np.empty((200, 192), np.float32)
    average_quantise(raw, previous, out, dtype)
    assert same_bits(out, twin.compress(twin.average(raw, previous), dtype, 64))
    quantise(previous, out[:, :128].copy(), 64, dtype)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"previous": np.zeros((2, 5), np.float32)}, "previous: expected 4 columns .a multiple"),
        ({"previous": np.zeros((3, 4), np.float32)}, "previous: expected 2 rows, got 3"),
        ({"out": np.zeros((2, 4), np.float32)}, "out: expected 8 columns, got 4"),
        ({"raw": np.zeros((2, 0), np.float32)}, "raw: expected a column at least"),
        ({"dtype": "fp8"}, 'dtype: expected "fp32", "fp16", "bf16" or "int8", got "fp8"'),
    ],
)
def test_a_wrong_argument_is_refused_by_name(changed: dict[str, Any], reason: str) -> None:
    arguments: dict[str, Any] = {
        "raw": np.zeros((2, 4), np.float32),
        "previous": np.zeros((2, 4), np.float32),
        "out": np.zeros((2, 8), np.float32),
    }
    with pytest.raises(ValueError, match=f"^{reason}"):
        average_quantise(**arguments | changed)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.1, float("nan")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    row = np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"^weight: expected above 0, at most 1"):
        exponential_quantise(row, row, weight, row.copy())


def test_a_dim_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^dim: expected a divisor of 6, got 4"):
        quantise(np.zeros((1, 6), np.float32), np.zeros((1, 6), np.float32), 4, "fp16")
