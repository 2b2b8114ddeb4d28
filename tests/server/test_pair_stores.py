"""Native tables of pairs: what is computed ahead, and what goes when invalidations are lost."""

import numpy as np
import pytest
from fill_cases import HOUR_MS, SPEC, SetClock, counting, filled, items_of, land

from predawn.csrc._core import ORIGIN_COMPUTED, ORIGIN_SPECULATIVE
from predawn.server.cache_place import TableSpec
from predawn.server.pair_aggregates import FillRules
from predawn.server.pair_cache import PairCache
from predawn.server.request import U8, Source, UserId

WAYS = 14


def store_of(capacity: int, rules: FillRules | None = None) -> PairCache:
    spec = TableSpec("fm", 3, 1, "fp32", capacity, SPEC.default, holds="pairs")
    return filled(SetClock(), rules or FillRules(), spec=spec)


def direct(cache: PairCache, user: UserId, items: range) -> int:
    """How many are there; a use of them all."""
    sources = cache.read("fm", user, items_of(items), HOUR_MS).sources
    return int((sources == Source.DIRECT).sum())


@pytest.mark.parametrize("user", [7, "anna"])
@pytest.mark.parametrize("asked", [WAYS - 1, WAYS])
def test_a_flood_of_speculation_leaves_what_requests_asked_for(user: UserId, asked: int) -> None:
    """A table of 14 is one set; its quota for speculation is one way."""
    cache = store_of(WAYS)
    land(cache, [(user, range(asked))], counting(0, asked))
    assert direct(cache, user, range(asked)) == asked
    for wave in range(20):
        ahead = range(1_000 * wave, 1_000 * wave + 50)
        land(cache, [("b" if user == "anna" else 8, ahead)], counting(0, 50), origin=1)
    assert direct(cache, user, range(asked)) == WAYS - 1
    stats = cache.stats()["fm"]
    assert stats["evictions_by_speculative"] == asked - (WAYS - 1)
    assert stats["evictions_live"] - stats["evictions_by_speculative"] == stats["evictions_quota"]


def test_in_a_large_full_table_speculation_takes_its_quota_and_no_more() -> None:
    cache = store_of(WAYS * 128)
    asked = range(3 * WAYS * 128)
    land(cache, [(7, asked)], counting(0, len(asked)))
    before = direct(cache, 7, asked)
    for user in range(100, 110):
        land(cache, [(user, range(2_000))], counting(0, 2_000), origin=ORIGIN_SPECULATIVE)
    stats = cache.stats()["fm"]
    lost = before - direct(cache, 7, asked)
    assert 0 < lost == stats["evictions_by_speculative"] <= 128 + 128 // 8  # some try one more
    for user in range(100, 110):
        land(cache, [(user, range(2_000))], counting(0, 2_000), origin=ORIGIN_COMPUTED)
    assert direct(cache, 7, asked) == 0  # as much without the quota leaves nothing


def test_a_pair_computed_ahead_stays_once_a_request_has_read_it_and_not_for_a_look() -> None:
    cache = store_of(WAYS)
    land(cache, [(7, range(2))], counting(0, 2), origin=ORIGIN_SPECULATIVE)
    assert direct(cache, 7, range(1)) == 1
    assert cache.peek("fm", 7, items_of([1]), HOUR_MS).tolist() == [0]
    assert cache.stats()["fm"]["promotions"] == cache.stats()["fm"]["hits_speculative"] == 1
    land(cache, [(8, range(100))], counting(0, 100), origin=ORIGIN_SPECULATIVE)
    assert cache.peek("fm", 7, items_of([0, 1]), HOUR_MS).tolist() == [0, -1]


def test_each_pair_of_a_batch_has_its_own_origin() -> None:
    cache = store_of(WAYS)
    origins: U8 = np.array([0, 1, 1, 0], dtype=np.uint8)
    rows = counting(0, 4)
    assert land(cache, [(7, [0, 1]), (8, [0, 1])], rows, origin=origins) == 4
    for user in (7, 8):
        reading = cache.read("fm", user, items_of([0, 1]), HOUR_MS)
        assert reading.rows.tolist() == rows[:2].tolist() if user == 7 else rows[2:].tolist()
    assert cache.stats()["fm"]["promotions"] == 2


@pytest.mark.parametrize("user", [7, "anna"])
def test_more_invalidations_than_are_kept_remove_means_too(user: UserId) -> None:
    cache = store_of(16, FillRules((Source.RECENT,), HOUR_MS, recent_length=2))
    land(cache, [(user, [1])], counting(0, 1))
    assert cache.stats()["fm"]["fill_entries"] == 2  # mean and ring
    others: list[UserId] = [f"u{n}" if isinstance(user, str) else n for n in range(100, 200)]
    cache.read("fm", user, items_of([1]), HOUR_MS)
    cache.invalidate(others, None)
    assert cache.read("fm", user, items_of([9]), HOUR_MS).sources.tolist() == [Source.DEFAULT]
    assert cache.stats()["fm"]["fill_entries"] == 0
    assert cache.check() == []
