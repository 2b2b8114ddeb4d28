"""Lookups and encodings in a call equal their numpy formulas."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.csrc._layers import encode, hashed_rows, sorted_positions
from predawn.server.models.mixing import mix
from predawn.server.request import U64

hashes = st.one_of(st.integers(0, 9), st.integers(2**64 - 5, 2**64 - 1))


def array(values: list[int] | set[int]) -> U64:
    """uint64, sorted."""
    return np.array(sorted(values), dtype=np.uint64)


@given(st.sets(hashes), st.lists(hashes))
def test_positions_are_those_of_a_search(table: set[int], items: list[int]) -> None:
    out = np.full(len(items), -7)
    sorted_positions(array(table), np.array(items, np.uint64), out)
    ordered = sorted(table)
    assert out.tolist() == [
        ordered.index(item) if item in table else len(ordered) for item in items
    ]


def test_positions_in_a_long_table() -> None:
    rng = np.random.default_rng(0)
    for count in (63, 64, 65, 1000):
        table = np.unique(rng.integers(0, 2**64, count, dtype=np.uint64))
        out = np.empty(len(table), np.int64)
        sorted_positions(table, table, out)
        assert (out == np.arange(len(table))).all()
        sorted_positions(table, table + np.uint64(1), out)
        assert (out == len(table)).all()


@given(st.lists(hashes, max_size=20), st.integers(1, 1000), st.integers(0, 2**64 - 1))
def test_hashed_rows_are_those_of_the_formula(items: list[int], rows: int, salt: int) -> None:
    given_items = np.array(items, np.uint64)
    out = np.full(len(items), -7)
    hashed_rows(given_items, salt, rows, out)
    expected = 1 + (mix(given_items ^ np.uint64(salt)) % np.uint64(rows)).astype(np.int64)
    assert (out == expected).all()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6))
def test_the_encoding_is_that_of_the_formula(values: list[float]) -> None:
    rng = np.random.default_rng(0)
    features = np.array(values, np.float32).reshape(3, 2)
    low, width, mean = (rng.random((2, 4)).astype(np.float32) + 0.1 for _ in range(3))
    out = np.full((3, 8), np.nan, np.float32)
    encode(features, low, width, mean, out)
    scaled = (np.sign(features) * np.log1p(np.abs(features)))[:, :, None]
    expected = (np.clip((scaled - low) / width, 0, 1) - mean) * (features != 0)[:, :, None]
    np.testing.assert_allclose(out, expected.reshape(3, 8), atol=1e-5)


def test_a_feature_that_is_not_a_number_stays_one() -> None:
    one = np.ones((1, 1), np.float32)
    out = one.copy()
    encode(one * np.float32(np.nan), one, one, one, out)
    assert np.isnan(out).all()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"low": np.zeros((3, 4), np.float32)}, "low: expected 2 rows, got 3"),
        ({"mean": np.zeros((2, 3), np.float32)}, "mean: expected 4 columns, got 3"),
        ({"out": np.zeros((3, 7), np.float32)}, "out: expected 8 columns, got 7"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(changed: dict[str, Any], reason: str) -> None:
    arguments: dict[str, Any] = {name: np.ones((2, 4), np.float32) for name in ("low", "width")}
    arguments |= {"features": np.zeros((3, 2), np.float32), "mean": np.zeros((2, 4), np.float32)}
    arguments["out"] = np.zeros((3, 8), np.float32)
    with pytest.raises(ValueError, match=f"^{reason}"):
        encode(**arguments | changed)
    with pytest.raises(ValueError, match=r"^rows: expected 1 or more"):
        hashed_rows(np.zeros(1, np.uint64), 0, 0, np.zeros(1, np.int64))
