"""A regression that learns one by one is the ridge regression of all at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.csrc._aggregates import ItemAggregates

HALF_LIFE_MS = 1_000
FOREVER = 2**60


@dataclass(slots=True)
class Twin:
    """The header's formulas in float64."""

    weights: Any
    spread: Any
    noise: float
    then_ms: int = 0

    def learn(self, p: Any, e: Any, now_ms: int) -> None:
        kept = 0.5 ** ((now_ms - self.then_ms) / HALF_LIFE_MS)
        own = np.diag(self.spread)
        scale = np.sqrt(np.minimum(1 / kept, 1 / self.noise / own))
        self.spread = self.spread * np.outer(scale, scale)
        diagonal = np.diag(np.diag(self.spread))
        self.spread = diagonal + (self.spread - diagonal) * (1 - (1 - kept) / 64)
        gain = self.spread @ p / (1 + p @ self.spread @ p)
        self.weights = self.weights + np.outer(gain, e - p @ self.weights)
        self.spread = self.spread - np.outer(gain, p @ self.spread)
        self.then_ms = now_ms


def twin_of(features: int, dim: int, noise: float) -> Twin:
    """Before anything is seen."""
    return Twin(np.zeros((features, dim)), np.eye(features) / noise, noise)


def ridge(p: Any, e: Any, noise: float) -> Any:
    """W [features, dim] of all examples at once."""
    return np.linalg.solve(p.T @ p + noise * np.eye(p.shape[1]), p.T @ e)


def add(table: ItemAggregates, p: Any, e: Any, now_ms: int = 0, item: int = 7) -> None:
    """Examples of one item."""
    items = np.full(len(p), item, dtype=np.uint64)
    table.add(items, p.astype(np.float32), e.astype(np.float32), now_ms)


def read(table: ItemAggregates, query: Any, dim: int, now_ms: int = 0, item: int = 7) -> Any:
    """W p of the item; NaN where it is not there."""
    rows = np.full((1, dim), np.nan, dtype=np.float32)
    one, weights, found = np.ones(1, np.uint8), np.empty(1, np.float32), np.empty(1, np.uint8)
    items = np.full(1, item, dtype=np.uint64)
    query = query.astype(np.float32)
    table.read(items, one, query, now_ms, FOREVER, 0.0, rows, weights, found)
    return rows[0]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    examples=st.integers(1, 60),
    features=st.integers(1, 19),
    dim=st.integers(1, 70),
    noise=st.sampled_from((0.01, 1.0, 30.0)),
)
def test_equals_the_ridge_regression_of_all_examples(
    seed: int, examples: int, features: int, dim: int, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    table = ItemAggregates(1, features, dim, HALF_LIFE_MS, noise)
    p, e = rng.normal(size=(examples, features)), rng.normal(size=(examples, dim))
    add(table, p, e)
    query = rng.normal(size=features)
    expected = query @ ridge(p, e, noise)
    scale = 1 + np.abs(expected).max()
    assert np.abs(read(table, query, dim) - expected).max() < 2e-3 * scale


def test_is_exact_for_what_is_linear_in_the_features_once_they_were_all_seen() -> None:
    rng = np.random.default_rng(0)
    table = ItemAggregates(1, 17, 64, HALF_LIFE_MS, 1e-3)
    weights = rng.normal(size=(17, 64))
    p = rng.normal(size=(40, 17))
    add(table, p, p @ weights)
    query = rng.normal(size=17)
    assert np.allclose(read(table, query, 64), query @ weights, atol=1e-2)


def test_a_mean_is_a_regression_on_one() -> None:
    rng = np.random.default_rng(1)
    table = ItemAggregates(1, 1, 5, HALF_LIFE_MS, 1e-3)
    e = rng.normal(size=(9, 5))
    add(table, np.ones((9, 1)), e)
    assert np.allclose(read(table, np.ones(1), 5), e.mean(axis=0), atol=1e-2)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.lists(st.integers(0, 700), min_size=1, max_size=40),
    features=st.integers(1, 18),
    noise=st.sampled_from((0.1, 1.0, 10.0)),
)
def test_fades_as_its_formulas_say(
    seed: int, steps: list[int], features: int, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    table, twin = ItemAggregates(1, features, 3, HALF_LIFE_MS, noise), twin_of(features, 3, noise)
    for now_ms in np.cumsum(steps).tolist():
        p, e = rng.normal(size=features), rng.normal(size=3)
        add(table, p[None], e[None], now_ms)
        twin.learn(p, e, max(now_ms, twin.then_ms))
    query = rng.normal(size=features)
    expected = query @ twin.weights
    assert np.abs(read(table, query, 3, twin.then_ms) - expected).max() < 5e-3


def test_counts_half_after_a_half_life() -> None:
    """Of a mean: 8 zeros of one half life ago count as much as 4 ones of now."""
    table = ItemAggregates(1, 1, 1, HALF_LIFE_MS, 1e-3)
    add(table, np.ones((8, 1)), np.zeros((8, 1)))
    add(table, np.ones((4, 1)), np.ones((4, 1)), HALF_LIFE_MS)
    assert read(table, np.ones(1), 1)[0] == pytest.approx(0.5, abs=2e-3)


def test_follows_a_change_and_stays_finite_through_a_thousand_half_lives() -> None:
    """Features that never vary again are where filters that forget blow up."""
    rng = np.random.default_rng(2)
    table = ItemAggregates(1, 8, 3, HALF_LIFE_MS, 1e-2)
    weights = rng.normal(size=(8, 3))
    add(table, rng.normal(size=(50, 8)), rng.normal(size=(50, 3)))
    p = rng.normal(size=8)
    for step in range(20_000):
        one = p if step % 2 else p * 0.5
        add(table, one[None], (one @ weights)[None], step * HALF_LIFE_MS // 20)
    now_ms = 1_000 * HALF_LIFE_MS
    assert np.allclose(read(table, p, 3, now_ms), p @ weights, atol=1e-2)
    assert np.isfinite(read(table, rng.normal(size=8), 3, now_ms)).all()
    fresh = rng.normal(size=(60, 8))
    add(table, fresh, fresh @ weights, now_ms)
    query = rng.normal(size=8)
    assert np.allclose(read(table, query, 3, now_ms), query @ weights, atol=0.05)


@pytest.mark.parametrize("noise", (0.5, 50.0))
def test_is_near_the_mean_with_little_data(noise: float) -> None:
    """One example, and a user who differs from it by everything but the constant."""
    table = ItemAggregates(1, 3, 1, HALF_LIFE_MS, noise)
    add(table, np.array([[1.0, 1.0, 0.0]]), np.array([[6.0]]))
    other = read(table, np.array([1.0, -1.0, 0.0]), 1)[0]
    same = read(table, np.array([1.0, 1.0, 0.0]), 1)[0]
    assert other == pytest.approx(0, abs=1e-5)
    assert same == pytest.approx(6 * 2 / (2 + noise), rel=1e-5)
