"""The two classes of entries: those written ahead of any request must not push out the others.

A table of 14 is one set, whose quota for speculative entries is 1.
"""

from collections import Counter

import numpy as np
import pytest
from store_calls import SEED, get, ids_in_set, keys_of, present, put, scanned, set_of

from predawn.csrc._core import EXPIRED, ORIGIN_COMPUTED, ORIGIN_SPECULATIVE, EmbeddingCache

WAYS = 14
DEMANDED, AHEAD = range(100, 100 + WAYS), range(500, 500 + WAYS)


@pytest.fixture
def store() -> EmbeddingCache:
    return EmbeddingCache.create(capacity=WAYS, dim=1, dtype="fp32", seed=SEED)


def put_ahead(store: EmbeddingCache, *ids: int, now_ms: int = 0) -> None:
    assert put(store, ids, origin=ORIGIN_SPECULATIVE, now_ms=now_ms) == len(ids)


def put_demanded(store: EmbeddingCache, *ids: int, now_ms: int = 0) -> None:
    assert put(store, ids, origin=ORIGIN_COMPUTED, now_ms=now_ms) == len(ids)


def test_speculation_fills_what_nobody_needs(store: EmbeddingCache) -> None:
    put_ahead(store, *AHEAD)
    assert present(store, AHEAD) == list(AHEAD)


def test_speculation_is_first_in_first_out(store: EmbeddingCache) -> None:
    put_ahead(store, *reversed(AHEAD))
    for step, newcomer in enumerate(range(900, 910)):
        put_ahead(store, newcomer)
        assert present(store, AHEAD) == list(AHEAD)[: WAYS - 1 - step]
    assert store.stats()["evictions_quota"] == 10


def test_writing_ahead_again_counts_as_new(store: EmbeddingCache) -> None:
    put_ahead(store, *AHEAD)
    put_ahead(store, AHEAD[0])
    put_ahead(store, 900)
    assert present(store, AHEAD[:2]) == [AHEAD[0]]


def test_requests_take_the_oldest_speculation_until_the_quota_is_left(
    store: EmbeddingCache,
) -> None:
    put_ahead(store, *AHEAD)
    for step, newcomer in enumerate(range(900, 913)):
        put_demanded(store, newcomer)
        assert present(store, AHEAD) == list(AHEAD)[step + 1 :]
    for newcomer in range(920, 990):
        put_demanded(store, newcomer)
    assert present(store, AHEAD) == [AHEAD[-1]]
    stats = store.stats()
    assert (stats["evictions_speculative"], stats["evictions_hand"]) == (13, 70)


def test_any_amount_of_speculation_costs_the_demanded_one_way(store: EmbeddingCache) -> None:
    put_demanded(store, *DEMANDED)
    for newcomer in range(1_000, 2_000):
        put_ahead(store, newcomer)
    assert len(present(store, DEMANDED)) == WAYS - 1
    stats = store.stats()
    assert (stats["evictions_by_speculative"], stats["evictions_quota"]) == (1, 999)


@pytest.mark.parametrize("use", ["read", "touch", "overwrite"])
def test_first_use_promotes(store: EmbeddingCache, use: str) -> None:
    put_demanded(store, *DEMANDED[:-1])
    put_ahead(store, 500)
    if use == "read":
        get(store, [500])
    elif use == "touch":
        store.touch_many(keys_of([500]))
    else:
        put_demanded(store, 500)
    for newcomer in range(1_000, 1_100):
        put_ahead(store, newcomer)
    assert len(present(store, [*DEMANDED, 500])) == WAYS - 1
    assert store.stats()["evictions_quota"] == 99
    put_demanded(store, *range(2_000, 2_100))
    assert present(store, [*range(1_000, 1_100)]) == [1_099]


def test_what_was_demanded_stays_so_when_it_is_written_ahead(store: EmbeddingCache) -> None:
    put_demanded(store, *DEMANDED)
    put_ahead(store, *DEMANDED)
    put_ahead(store, 900, 901, 902)
    stats = store.stats()
    assert (stats["evictions_by_speculative"], stats["evictions_quota"]) == (1, 2)
    assert sorted(scanned(store).origins) == [ORIGIN_SPECULATIVE] * WAYS


def test_a_read_that_finds_it_too_old_promotes_nothing(store: EmbeddingCache) -> None:
    put_ahead(store, *AHEAD)
    assert set(get(store, AHEAD, now_ms=9, max_age_ms=8).states.tolist()) == {EXPIRED}
    put_demanded(store, 900, now_ms=9)
    assert present(store, AHEAD) == list(AHEAD[1:])
    assert store.stats()["promotions"] == 0


@pytest.mark.parametrize("origin", [ORIGIN_COMPUTED, ORIGIN_SPECULATIVE])
def test_the_expired_go_before_all_classes(store: EmbeddingCache, origin: int) -> None:
    put_demanded(store, *DEMANDED[:7], now_ms=0)
    put_ahead(store, *AHEAD[:7], now_ms=1_000)
    get(store, [DEMANDED[0]], now_ms=100, max_age_ms=100)
    for step in range(7):
        put(store, [900 + step], origin=origin, now_ms=1_000)
        assert present(store, DEMANDED) == list(DEMANDED[step + 1 : 7])
    assert present(store, AHEAD) == list(AHEAD[:7])
    assert store.stats()["evictions_expired"] == 7 and store.stats()["evictions_live"] == 0


def test_nothing_is_expired_before_the_first_read(store: EmbeddingCache) -> None:
    put_demanded(store, *DEMANDED, now_ms=0)
    put_demanded(store, 900, now_ms=10**12)
    assert store.stats()["evictions_expired"] == 0
    get(store, [900], now_ms=10**12, max_age_ms=0)
    put_demanded(store, 901, now_ms=10**12 + 8)  # 0 counts as 1 ms, of which 2 make sure
    assert store.stats()["evictions_expired"] == 1


def test_the_longest_age_of_all_reads_decides_what_is_expired(store: EmbeddingCache) -> None:
    put_demanded(store, *DEMANDED, now_ms=0)
    get(store, [1], now_ms=0, max_age_ms=5_000)
    get(store, [1], now_ms=0, max_age_ms=10)
    put_demanded(store, 900, now_ms=5_000)
    assert store.stats()["evictions_expired"] == 0
    put_demanded(store, 901, now_ms=11_000)
    assert store.stats()["evictions_expired"] == 1


@pytest.mark.parametrize("by_read", [True, False])
def test_what_is_used_again_and_again_outlives_what_comes_once(
    store: EmbeddingCache, by_read: bool
) -> None:
    hot = DEMANDED[:5]
    put_demanded(store, *DEMANDED)
    for newcomer in range(1_000, 1_500):
        found = (get(store, hot).ages >= 0).sum() if by_read else store.touch_many(keys_of(hot))
        assert found == len(hot)
        put_demanded(store, newcomer)
    assert present(store, hot) == list(hot)


def test_no_set_of_a_large_table_holds_more_than_its_quota() -> None:
    """Once requests have filled it; a quota of 2 is tried by some sets of 64."""
    random = np.random.default_rng(4)
    store = EmbeddingCache.create(capacity=WAYS * 130, dim=1, seed=SEED)
    for start in range(0, 60_000, 1_000):
        put(store, random.integers(0, 10**6, 500) + 10**6, origin=ORIGIN_SPECULATIVE)
        put(store, random.integers(0, 10**6, 500), origin=ORIGIN_COMPUTED)
        if start % 10_000 == 0 and start > 0:
            ahead = Counter(set_of(store, n) for n in scanned(store).ids if n >= 10**6)
            assert max(ahead.values()) == 2 and ahead.total() <= 130 + 2 * 8
    assert store.stats()["evictions_by_speculative"] < 1_000 and store.check() == []


def test_a_set_out_of_room_leaves_other_sets_alone() -> None:
    store = EmbeddingCache.create(capacity=WAYS * 3, dim=1, seed=SEED)
    calm = ids_in_set(store, 1, WAYS)
    put(store, calm)
    put(store, ids_in_set(store, 0, 200))
    put(store, ids_in_set(store, 2, 200), origin=ORIGIN_SPECULATIVE)
    assert present(store, calm) == calm
