"""A look at entries: what a read would find, and nothing else happens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_calls import SEED, get, keys_of, present, put

from predawn.csrc._core import ORIGIN_SPECULATIVE, EmbeddingCache

WAYS = 14
AHEAD = range(500, 500 + WAYS)


def peek(
    store: EmbeddingCache, ids: list[int], now_ms: int, max_age_ms: int
) -> tuple[list[int], list[int]]:
    ages, snapshots = np.full(len(ids), 7, np.int64), np.full(len(ids), 99, np.uint32)
    found = store.peek_many(keys_of(ids), now_ms, max_age_ms, ages, snapshots)
    assert found == (ages >= 0).sum()
    return ages.tolist(), snapshots.tolist()


@given(
    written=st.dictionaries(st.integers(0, 60), st.tuples(st.integers(0, 50), st.integers(0, 9))),
    now_ms=st.integers(0, 80),
    max_age_ms=st.integers(0, 80),
    floor=st.integers(0, 9),
)
@settings(deadline=None)
def test_ages_and_snapshots_are_those_of_a_read(
    written: dict[int, tuple[int, int]], now_ms: int, max_age_ms: int, floor: int
) -> None:
    store = EmbeddingCache.create(capacity=4096, dim=1, dtype="fp32", seed=SEED, huge_pages=False)
    for key, (at_ms, snapshot) in written.items():
        put(store, [key], now_ms=at_ms, snapshot=snapshot)
    store.invalidate_before(floor)
    before = store.stats()
    ids = list(range(0, 61, 3))
    ages, snapshots = peek(store, ids, now_ms, max_age_ms)
    assert store.stats() == before
    read = get(store, ids, now_ms=now_ms, max_age_ms=max_age_ms)
    assert ages == read.ages.tolist()
    for age_ms, snapshot, of_read in zip(ages, snapshots, read.snapshots.tolist(), strict=True):
        assert snapshot == (of_read if age_ms >= 0 else 99)


@pytest.mark.parametrize("looks", [False, True])
def test_a_look_saves_nothing_from_eviction(looks: bool) -> None:
    """A table of 14 is one set: the oldest speculative entry stays if it is read, not if seen."""
    store = EmbeddingCache.create(capacity=WAYS, dim=1, dtype="fp32", seed=SEED)
    put(store, AHEAD, origin=ORIGIN_SPECULATIVE)
    if looks:
        assert peek(store, [AHEAD[0]], 0, 1_000)[0] == [0]
    else:
        get(store, AHEAD[:1])
    put(store, [900], origin=ORIGIN_SPECULATIVE)
    assert (AHEAD[0] in present(store, AHEAD)) is not looks


def test_a_look_accepts_no_age() -> None:
    """What counts as expired for eviction is what requests accept."""
    store = EmbeddingCache.create(capacity=WAYS, dim=1, dtype="fp32", seed=SEED)
    put(store, range(WAYS), now_ms=0)
    get(store, range(1), now_ms=10, max_age_ms=10)
    peek(store, list(range(WAYS)), 100, 10**9)
    put(store, [77], now_ms=100)
    assert store.stats()["evictions_expired"] == 1


def test_arguments_that_do_not_fit_are_named() -> None:
    store = EmbeddingCache.create(capacity=WAYS, dim=1, dtype="fp32", seed=SEED)
    ages = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="ages: expected length 1"):
        store.peek_many(keys_of([1]), 0, 0, ages)
    with pytest.raises(ValueError, match="max_age_ms: expected 0 or more"):
        store.peek_many(keys_of([1, 2]), 0, -1, ages)
    with pytest.raises(ValueError, match="snapshots: expected length 2"):
        store.peek_many(keys_of([1, 2]), 0, 0, ages, np.zeros(3, np.uint32))
    assert store.peek_many(keys_of([]), 0, 0, ages[:0]) == 0
