"""Pooled bags equal a plain loop, and a bad id is counted and nothing else."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import ISAS

from predawn.csrc._layers import bag_pool
from predawn.server.request import F32

ROWS = 12


def table_of(dtype: str, width: int, rng: np.random.Generator) -> tuple[Any, F32 | None]:
    """Random rows of a dtype, and scales."""
    if dtype == "int8":
        scales = rng.uniform(0.01, 0.1, ROWS).astype(np.float32)
        return rng.integers(-127, 128, (ROWS, width)).astype(np.int8), scales
    return rng.normal(size=(ROWS, width)).astype(dtype), None


def pooled(
    table: Any, scales: F32 | None, bags: list[list[int]], factors: Any, mean: bool
) -> tuple[Any, int]:
    """A plain loop in float64, and the bad ids."""
    out = np.zeros((len(bags), table.shape[1]))
    at = bad = 0
    for b, bag in enumerate(bags):
        good = 0
        for row in bag:
            if 0 <= row < ROWS:
                scale = 1.0 if scales is None else float(scales[row])
                out[b] += factors[at] * table[row].astype(np.float64) * scale
                good += 1
            at += 1
        bad += len(bag) - good
        out[b] /= max(good, 1) if mean else 1
    return out, bad


@settings(max_examples=80)
@given(
    bags=st.lists(st.lists(st.integers(-2, ROWS + 1), max_size=20), max_size=6),
    dtype=st.sampled_from(["float32", "float16", "int8"]),
    width=st.sampled_from([1, 7, 16, 31, 32, 64, 65, 100, 130]),
    weighted=st.booleans(),
    mean=st.booleans(),
    seed=st.integers(0, 99),
)
def test_bags_equal_a_plain_loop(
    bags: list[list[int]], dtype: str, width: int, weighted: bool, mean: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    table, scales = table_of(dtype, width, rng)
    ids = np.array([row for bag in bags for row in bag], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, bags)], dtype=np.int64)
    weights = rng.normal(size=len(ids)).astype(np.float32) if weighted else None
    factors = np.ones(len(ids)) if weights is None else weights
    expected, bad = pooled(table, scales, bags, factors, mean)
    for isa in ISAS:
        out = np.full((len(bags), width), np.nan, dtype=np.float32)
        assert bag_pool(table, ids, offsets, out, scales, weights, mean, isa) == bad
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("isa", ISAS)
def test_a_bag_stands_alone_bit_by_bit(isa: str) -> None:
    rng = np.random.default_rng(0)
    table, _ = table_of("float16", 70, rng)
    ids = rng.integers(0, ROWS, 40)
    together, alone = np.zeros((4, 70), np.float32), np.zeros((1, 70), np.float32)
    bag_pool(table, ids, np.arange(0, 41, 10), together, isa=isa)
    for bag in range(4):
        bag_pool(table, ids[bag * 10 : bag * 10 + 10], np.array([0, 10]), alone, isa=isa)
        assert alone.tobytes() == together[bag : bag + 1].tobytes()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"offsets": np.array([0, 3, 2])}, "offsets: expected to ascend from 0 to 2"),
        ({"offsets": np.array([1, 2])}, "offsets: expected to ascend"),
        ({"ids": np.zeros(2, np.int32)}, "ids: expected dtype int64"),
        ({"out": np.zeros((1, 5), np.float32)}, "out: expected 4 columns, got 5"),
        ({"out": np.zeros((2, 4), np.float32)}, "out: expected 1 rows, got 2"),
        ({"weights": np.zeros(3, np.float32)}, "weights: expected length 2"),
        ({"table": np.zeros((3, 4), np.int8)}, "table_scales: int8 rows need one float32 each"),
        (
            {"table": np.zeros((3, 4), np.int8), "table_scales": np.zeros(2, np.float32)},
            "table_scales: expected length 3, got 2",
        ),
    ],
)
def test_a_wrong_argument_is_refused_by_name(changed: dict[str, Any], reason: str) -> None:
    arguments: dict[str, Any] = {
        "table": np.zeros((3, 4), np.float32),
        "ids": np.zeros(2, np.int64),
        "offsets": np.array([0, 2]),
        "out": np.zeros((1, 4), np.float32),
    }
    with pytest.raises(ValueError, match=f"^{reason}"):
        bag_pool(**arguments | changed)
