"""Histograms against the sorted list of what was recorded."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.csrc._core import Histogram

LARGEST = 2**63 - 1
numbers = st.one_of(
    st.integers(0, 100),
    st.integers(0, 10**9),
    st.integers(0, 62).map(lambda b: 2**b),
    st.integers(0, LARGEST),
)
lists = st.lists(numbers, min_size=1, max_size=200)


def histogram_of(values: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.record_many(np.array(values, np.int64))
    return histogram


def is_close(measured: float, true: int) -> bool:
    """Half a bucket of width 1/32 at most; the last bit is the float's."""
    return abs(measured - true) <= true / 64 * (1 + 1e-12)


@given(values=lists, q=st.floats(0, 1))
def test_quantile_is_within_its_error_of_the_ranked_value(values: list[int], q: float) -> None:
    rank = max(1, math.ceil(q * len(values)))
    assert is_close(histogram_of(values).quantile(q), sorted(values)[rank - 1])


@given(st.integers(0, 31))
def test_small_numbers_are_exact(value: int) -> None:
    assert histogram_of([value]).quantile(0.5) == value


@given(values=lists, bounds=st.lists(st.integers(-5, LARGEST), max_size=20))
def test_counts_at_is_cumulative_and_never_too_much(values: list[int], bounds: list[int]) -> None:
    counts = histogram_of(values).counts_at(np.array(bounds, np.int64))
    for bound, count in zip(bounds, counts.tolist(), strict=True):
        assert count <= sum(value <= bound for value in values)
        assert count >= sum(value + value // 32 <= bound for value in values)


def test_counts_at_the_end_of_the_range_is_everything() -> None:
    histogram = histogram_of([0, 1, 10**9, LARGEST])
    assert histogram.counts_at(np.array([LARGEST], np.int64)).tolist() == [4]


@given(left=lists, right=lists)
def test_merge_is_the_histogram_of_both(left: list[int], right: list[int]) -> None:
    merged, both = histogram_of(left), histogram_of(left + right)
    merged.merge(histogram_of(right))
    bounds = np.array(sorted({*left, *right}), np.int64)
    assert merged.count == both.count == len(left) + len(right)
    assert merged.sum == both.sum == sum(left + right) % 2**64
    assert (merged.counts_at(bounds) == both.counts_at(bounds)).all()


def test_empty_has_no_quantile_and_clear_makes_empty() -> None:
    histogram = Histogram()
    assert math.isnan(histogram.quantile(0.5)) and histogram.count == 0
    histogram.record(7)
    histogram.clear()
    assert math.isnan(histogram.quantile(0.5)) and (histogram.count, histogram.sum) == (0, 0)


def test_threads_lose_nothing() -> None:
    histogram = Histogram()
    values = np.arange(20_000, dtype=np.int64)
    threads = [threading.Thread(target=histogram.record_many, args=(values,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histogram.count == 80_000 and histogram.sum == 4 * int(values.sum())


def test_bad_arguments_are_named_and_change_nothing() -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="value: expected 0 or more, got -1"):
        histogram.record(-1)
    with pytest.raises(ValueError, match="values: expected 0 or more, got -3"):
        histogram.record_many(np.array([1, -3], np.int64))
    with pytest.raises(ValueError, match="values: expected dtype int64, got float64"):
        histogram.record_many(np.zeros(3))  # type: ignore[arg-type]
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="q: expected 0 to 1"):
            histogram.quantile(q)
    with pytest.raises(ValueError, match=r"bounds: expected 1 dimension\(s\), got shape \(1, 1\)"):
        histogram.counts_at(np.zeros((1, 1), np.int64))
    assert histogram.count == 0
