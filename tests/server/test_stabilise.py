"""The averaging against a plain-Python twin, and rounding against the store's promise."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from predawn.csrc._core import EmbeddingCache
from predawn.server.stabilise import average, average_exponentially, compress

NAN = float("nan")


def naive_average(raw: list[float], previous: list[list[float]]) -> list[list[float]]:
    """One row: served, then the raws that stay (lists of dim values; None-like parts are NaN)."""
    present = [raw] + [part for part in previous if not math.isnan(part[0])]
    served = [sum(column) / len(present) for column in zip(*present, strict=True)]
    return [served, raw, *previous[:-1]] if previous else [raw]


values = st.floats(-8, 8, width=16)


@given(st.data(), st.integers(1, 4), st.integers(1, 5), st.integers(0, 4))
def test_average_equals_the_naive_twin(data: st.DataObject, dim: int, n: int, kept: int) -> None:
    part = st.one_of(st.just([NAN] * dim), st.lists(values, min_size=dim, max_size=dim))
    raws = data.draw(st.lists(st.lists(values, min_size=dim, max_size=dim), min_size=n, max_size=n))
    before = data.draw(
        st.lists(st.lists(part, min_size=kept, max_size=kept), min_size=n, max_size=n)
    )
    expected = np.array(
        [np.concatenate(naive_average(r, b)) for r, b in zip(raws, before, strict=True)],
        dtype=np.float32,
    )

    rows = average(
        np.array(raws, dtype=np.float32).reshape(n, dim),
        np.array(before, dtype=np.float32).reshape(n, kept * dim),
    )

    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)


def test_three_versions_in_a_row_are_averaged_and_the_fourth_drops_the_first() -> None:
    row = np.full((1, 3), NAN, dtype=np.float32)
    served = []
    for value in (3.0, 6.0, 9.0, 12.0):
        row = average(np.array([[value]], dtype=np.float32), row[:, 1:])
        served.append(float(row[0, 0]))
    assert served == [3.0, 4.5, 6.0, 9.0]


def test_one_part_serves_the_raw_vector_and_keeps_nothing_else() -> None:
    raw = np.array([[1.0, 2.0]], dtype=np.float32)
    assert average(raw, np.empty((1, 0), dtype=np.float32)).tolist() == [[1.0, 2.0]]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_fp16_rounds_to_the_nearest_half_and_stays_finite(numbers: list[float]) -> None:
    rows = np.array([numbers], dtype=np.float32)
    once = compress(rows, "fp16")
    assert np.isfinite(once).all()
    inside = np.abs(rows) <= 65_504
    assert (once[inside] == rows[inside].astype(np.float16).astype(np.float32)).all()
    assert (np.abs(once[~inside]) == 65_504).all()
    assert (compress(once, "fp16") == once).all()


def test_an_absent_part_stays_absent_when_rounded() -> None:
    assert np.isnan(compress(np.array([[NAN]], dtype=np.float32), "fp16")).all()


@given(
    st.sampled_from(["fp16", "bf16", "int8"]),
    st.integers(1, 3),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=12, max_size=12),
    st.booleans(),
)
def test_the_store_gives_back_exactly_what_was_rounded(
    dtype: str, parts: int, numbers: list[float], absent: bool
) -> None:
    dim = 12 // parts
    rows = np.array([numbers], dtype=np.float32)[:, : parts * dim]
    if absent and parts > 1:
        rows[:, -dim:] = NAN
    once = compress(rows, dtype, dim)
    store = EmbeddingCache.create(
        capacity=14, dim=dim, parts=parts, dtype=dtype, seed=bytes(32), huge_pages=False
    )
    keys = np.ones((1, 2), dtype=np.uint64)
    store.put_many(keys, once, 0, 0, 0)
    out = np.empty_like(once)
    store.get_many(keys, 0, 0, out, np.empty(1, dtype=np.int64))
    assert np.array_equal(out, once, equal_nan=True)
    assert np.isnan(once).any() == (absent and parts > 1)


def test_int8_keeps_255_steps_of_each_part() -> None:
    rows = np.array([[1.27, -0.634, 0.001, 12.7, 0.0, -12.64]], dtype=np.float32)
    rounded = compress(rows, "int8", 3)
    steps = np.array([[0.01, 0.01, 0.01, 0.1, 0.1, 0.1]], dtype=np.float32)
    assert (np.abs(rounded - rows) <= steps * 0.5001).all()
    assert rounded[0, 4] == 0


def test_rounding_in_the_same_pass_is_rounding_afterwards() -> None:
    rng = np.random.default_rng(0)
    raw, previous = rng.normal(size=(5, 8)).astype(np.float32), np.full((5, 16), NAN, np.float32)
    previous[2:, :8] = 3
    for dtype in ("fp32", "fp16", "bf16", "int8"):
        once = average(raw, previous, dtype)
        assert np.array_equal(once, compress(average(raw, previous), dtype, 8), equal_nan=True)


def test_an_exponential_average_moves_by_its_weight_and_begins_at_the_first() -> None:
    served = np.full((1, 2), NAN, dtype=np.float32)
    seen = []
    for value in (4.0, 8.0, 8.0):
        served = average_exponentially(np.full((1, 2), value, np.float32), served, 0.25)
        seen.append(float(served[0, 1]))
    assert seen == [4.0, 5.0, 5.75]


def test_what_does_not_change_stays_bit_by_bit() -> None:
    row = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
    assert average_exponentially(row, row, 0.3).tobytes() == row.tobytes()


def test_other_layouts_and_empty_batches_are_taken() -> None:
    raw = np.arange(12, dtype=np.float32).reshape(6, 2).T
    assert average(raw[:, ::2], np.empty((2, 0), np.float32)).tolist() == raw[:, ::2].tolist()
    none = np.empty((0, 4), np.float32)
    assert average(none, np.empty((0, 8), np.float32), "int8").shape == (0, 12)
    assert compress(none, "fp16").shape == (0, 4)


def test_fp32_is_left_alone() -> None:
    rows = np.array([[0.1, 1e30]], dtype=np.float32)
    assert compress(rows, "fp32").tobytes() == rows.tobytes()
