"""The pool: no page is lost, shared or read for another history, whatever happens."""

import numpy as np
import pytest

from predawn.kernels.hstu_prefix_attn import PAGE
from predawn.server.models.foundation_pages import Kept, PagePool, PoolFull, pages_of
from predawn.server.request import U64


def history(tokens: int, seed: int = 0) -> U64:
    return np.random.default_rng(seed).integers(0, 9, (tokens, 3), dtype=np.uint64)


def encoded(pool: PagePool, user: int, events: U64) -> Kept:
    """Acquired and written, still pinned."""
    kept = pool.acquire(user, events)
    if kept.length < len(events):
        pool.commit(kept, len(events))
    return kept


def keep(pool: PagePool, user: int, events: U64) -> None:
    pool.release(encoded(pool, user, events))


def test_what_is_kept_is_found_extended_and_cut_back() -> None:
    pool, events = PagePool(20, 4), history(200)
    keep(pool, 1, events[:100])
    kept = pool.acquire(1, events[:110])
    assert kept.length == 100 and kept.writing
    pool.commit(kept, 110)
    pool.release(kept)
    changed = events[:120].copy()
    changed[70] += np.uint64(1)
    kept = pool.acquire(1, changed)
    assert kept.length == 70
    pool.commit(kept, 120)
    pool.release(kept)
    counted = pool.counters()
    assert (counted["tokens_encoded"], counted["tokens_extended"]) == (100, 60)
    assert (counted["users"], counted["pages_used"]) == (1, 2)


def test_an_unchanged_and_a_shorter_history_cost_nothing() -> None:
    pool, events = PagePool(20, 4), history(200)
    keep(pool, 1, events)
    for tokens in (200, 150, 200):
        kept = pool.acquire(1, events[:tokens])
        assert kept.length == 200 and not kept.writing
        pool.release(kept)


def test_the_least_recently_used_go_first_and_pinned_ones_stay() -> None:
    pool = PagePool(8, 2)
    for user in range(4):
        keep(pool, user, history(100, user))
    pinned = encoded(pool, 0, history(100, 0))
    keep(pool, 1, history(100, 1))
    keep(pool, 9, history(100, 9))  # 2 is the oldest that is not pinned
    found = {user: pool.acquire(user, history(100, user)).length for user in (0, 1, 3)}
    assert found == {0: 100, 1: 100, 3: 100}
    with pytest.raises(PoolFull, match="not pinned"):
        pool.acquire(8, history(128 * 2, 8))
    assert pinned.length == 100


def test_a_pool_for_fewer_than_four_histories_is_refused() -> None:
    with pytest.raises(ValueError, match="four histories"):
        PagePool(15, 4)


def test_who_would_change_what_another_reads_gets_pages_of_its_own() -> None:
    pool, events = PagePool(20, 4), history(100)
    reader = encoded(pool, 1, events)
    pages = list(reader.pages)
    other = events.copy()
    other[10] += np.uint64(1)
    writer = pool.acquire(1, other)
    assert writer is not reader and writer.length == 0
    assert not set(writer.pages) & set(pages) and reader.pages == pages
    pool.release(reader)
    assert pool.counters()["pages_used"] == 2
    pool.commit(writer, 100)
    pool.release(writer)
    assert pool.acquire(1, other).length == 100


def test_what_another_is_writing_is_not_touched() -> None:
    pool, events = PagePool(20, 4), history(100)
    first = pool.acquire(1, events)
    second = pool.acquire(1, events)
    assert second is not first and not set(first.pages) & set(second.pages)
    pool.commit(first, 100)
    pool.release(first)
    pool.release(second)  # dropped half way
    kept = pool.acquire(1, events)
    assert kept is second and kept.length == 0


def test_readers_may_share_and_one_may_extend() -> None:
    pool, events = PagePool(20, 4), history(200)
    reader = encoded(pool, 1, events[:100])
    writer = pool.acquire(1, events)
    assert writer is reader and writer.length == 100
    pool.commit(writer, 200)
    pool.release(writer)
    pool.release(reader)
    assert pool.acquire(1, events).length == 200


def test_an_empty_history_takes_nothing() -> None:
    pool = PagePool(8, 2)
    kept = pool.acquire(1, history(0))
    assert (kept.length, kept.pages, kept.writing) == (0, [], False)
    pool.release(kept)
    assert pool.counters()["users"] == 0


def test_slots_are_the_tokens_places() -> None:
    kept = Kept(1, pages=[3, 4, 9])
    assert kept.slots(0, 0) == slice(0, 0)
    assert kept.slots(10, 100) == slice(3 * PAGE + 10, 3 * PAGE + 100)
    scattered = kept.slots(120, 130)
    assert scattered == [*range(4 * PAGE + 56, 5 * PAGE), 9 * PAGE, 9 * PAGE + 1]


def test_pages_side_by_side_are_preferred() -> None:
    pool = PagePool(32, 4)
    for user in range(6):
        keep(pool, user, history(60, user))
    for user in range(6):
        keep(pool, user, np.concatenate([history(60, user), history(190, 99)]))
        kept = pool.acquire(user, history(60, user))
        assert isinstance(kept.slots(0, 250), slice)


def test_no_page_is_lost_or_shared_in_a_random_life() -> None:
    """Against a twin that only counts: every held page belongs to one entry."""
    rng = np.random.default_rng(4)
    pool = PagePool(24, 4)
    held: list[Kept] = []
    for _ in range(3000):
        if held and (len(held) > 4 or rng.random() < 0.5):
            kept = held.pop(int(rng.integers(len(held))))
            if kept.writing and rng.random() < 0.8:
                pool.commit(kept, len(kept.history))
            pool.release(kept)
            continue
        user, tokens = int(rng.integers(8)), int(rng.integers(0, 4 * PAGE + 1))
        events = history(4 * PAGE, user)[:tokens].copy()
        if tokens and rng.random() < 0.3:
            events[int(rng.integers(tokens))] += np.uint64(1)
        try:
            kept = pool.acquire(user, events)
        except PoolFull:
            continue
        assert len(kept.pages) >= pages_of(tokens)
        there = min(kept.length, tokens)
        assert (kept.history[:there] == events[:there]).all()
        held.append(kept)
        pages = [page for each in {id(k): k for k in held}.values() for page in each.pages]
        assert len(pages) == len(set(pages))
        assert len(pages) <= pool.counters()["pages_used"] <= 24
    for kept in held:
        pool.release(kept)
    for user in range(8):
        pool.release(pool.acquire(user, history(1, 1000 + user)))
    counted = pool.counters()
    assert counted["pages_used"] == counted["users"] == 8
