"""Each count of `stats` moves when what it counts happens, by as much, and at no other time.

A table of 14 is one set. What only stopped or dead processes do is made up in the file.
"""

import mmap
import shutil
import struct
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from store_calls import SEED, get, ids_in_set, keys_of, put, scanned
from store_twin import place_of

from predawn.csrc._core import EmbeddingCache

WAYS = 14
PUT = {"put_set_reads": 2}
HIT = {"hits": 1, "hits_fresh": 1, "probes": 1}
Action = Callable[[EmbeddingCache], object]


def new_store(path: Path | None = None, capacity: int = WAYS) -> EmbeddingCache:
    return EmbeddingCache.create(
        path, capacity=capacity, dim=1, dtype="fp32", seed=SEED, huge_pages=False
    )


@pytest.fixture
def store() -> EmbeddingCache:
    return new_store()


def moved(store: EmbeddingCache, action: Action) -> dict[str, int]:
    """What the action changed, by how much."""
    before = store.stats()
    action(store)
    return {name: n - before[name] for name, n in store.stats().items() if n != before[name]}


def twin_of(number: int) -> int:
    """Another id with the same fingerprint, so that a reader of one has to look at the other."""
    wanted = place_of((number, 0), SEED, 1)[1]
    return next(n for n in count(number + 1) if place_of((n, 0), SEED, 1)[1] == wanted)


def test_a_new_store_has_counted_nothing(store: EmbeddingCache) -> None:
    stats = store.stats()
    assert {name: n for name, n in stats.items() if n} == {
        "capacity": WAYS,
        "bytes": store.bytes,
        "policy_sieve": 1,
        "speculative_quota": 1,
    }


SCENARIOS: list[tuple[str, list[Action], Action, dict[str, int]]] = [
    ("insert", [], lambda s: put(s, [1]), {"inserts": 1, "entries": 1, **PUT}),
    ("overwrite", [lambda s: put(s, [1])], lambda s: put(s, [1]), {"overwrites": 1, **PUT}),
    ("first hit", [lambda s: put(s, [1])], lambda s: get(s, [1]), {**HIT, "hints_set": 1}),
    ("next hit", [lambda s: put(s, [1]), lambda s: get(s, [1])], lambda s: get(s, [1]), HIT),
    (
        "fresh until fresh_ms",
        [lambda s: put(s, [1]), lambda s: get(s, [1])],
        lambda s: get(s, [1], now_ms=5, max_age_ms=9, fresh_ms=5),
        HIT,
    ),
    (
        "stale from then on",
        [lambda s: put(s, [1]), lambda s: get(s, [1])],
        lambda s: get(s, [1], now_ms=6, max_age_ms=9, fresh_ms=5),
        {"hits": 1, "hits_stale": 1, "probes": 1},
    ),
    (
        "expired",
        [lambda s: put(s, [1])],
        lambda s: get(s, [1], now_ms=10, max_age_ms=9),
        {"expired": 1, "probes": 1},
    ),
    ("miss", [lambda s: put(s, [1])], lambda s: get(s, [2]), {"misses": 1}),
    (
        "miss beside a like fingerprint",
        [lambda s: put(s, [1])],
        lambda s: get(s, [twin_of(1)]),
        {"misses": 1, "probes": 1},
    ),
    (
        "outdated",
        [lambda s: put(s, [1], snapshot=4), lambda s: s.invalidate_before(5)],
        lambda s: get(s, [1]),
        {"misses": 1, "misses_outdated": 1, "probes": 1},
    ),
    (
        "first hit of speculation",
        [lambda s: put(s, [1], origin=1)],
        lambda s: get(s, [1]),
        {**HIT, "hints_set": 1, "hits_speculative": 1, "promotions": 1},
    ),
    (
        "next hit of speculation",
        [lambda s: put(s, [1], origin=1), lambda s: get(s, [1])],
        lambda s: get(s, [1]),
        {**HIT, "hits_speculative": 1},
    ),
    (
        "eviction by the hand",
        [lambda s: put(s, range(WAYS))],
        lambda s: put(s, [99]),
        {"inserts": 1, "evictions_live": 1, "evictions_hand": 1, **PUT},
    ),
    (
        "eviction for speculation within its quota",
        [lambda s: put(s, range(WAYS))],
        lambda s: put(s, [99], origin=1),
        {"inserts": 1, "evictions_live": 1, "evictions_by_speculative": 1, **PUT},
    ),
    (
        "eviction of speculation for speculation",
        [lambda s: put(s, range(WAYS), origin=1)],
        lambda s: put(s, [99], origin=1),
        {"inserts": 1, "evictions_live": 1, "evictions_quota": 1, **PUT},
    ),
    (
        "eviction of speculation",
        [lambda s: put(s, range(WAYS), origin=1)],
        lambda s: put(s, [99]),
        {"inserts": 1, "evictions_live": 1, "evictions_speculative": 1, **PUT},
    ),
    (
        "eviction of the expired",
        [lambda s: put(s, range(WAYS)), lambda s: get(s, [1], max_age_ms=10)],
        lambda s: put(s, [99], now_ms=20),
        {"inserts": 1, "evictions_expired": 1, **PUT},
    ),
    (
        "invalidation",
        [lambda s: put(s, [1])],
        lambda s: s.invalidate_many(keys_of([1, 2])),
        {"invalidations": 1, "entries": -1},
    ),
    (
        "what counts nothing",
        [lambda s: put(s, [1])],
        lambda s: (s.touch_many(keys_of([1, 2])), s.check(), s.samples(), scanned(s), s.reap()),
        {},
    ),
]


@pytest.mark.parametrize(
    ("before", "action", "changes"), [s[1:] for s in SCENARIOS], ids=[s[0] for s in SCENARIOS]
)
def test_counts_move_by_what_happened(
    store: EmbeddingCache, before: list[Action], action: Action, changes: dict[str, int]
) -> None:
    for step in before:
        step(store)
    assert moved(store, action) == changes and store.check() == []


class File:
    """The words of a store's file, changed behind its back."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self.bytes = mmap.mmap(file.fileno(), 0)
        self.slot_bytes, self.lines_at, self.slots_at = struct.unpack_from("<IQQ", self.bytes, 60)

    def set_word(self, clear: int, add: int) -> None:
        """Of set 0: bits cleared, then bits set."""
        (word,) = struct.unpack_from("<Q", self.bytes, self.lines_at)
        struct.pack_into("<Q", self.bytes, self.lines_at, (word & ~clear) | add)

    def slot_of_way(self, way: int) -> int:
        (tag,) = struct.unpack_from("<I", self.bytes, self.lines_at + 8 + 4 * way)
        return (tag >> 4) & 15

    def lend_lines(self, lines: range, claim: int) -> None:
        """Journal lines in use by attachment 50, which is nobody, in generation 9."""
        for line in lines:
            at = self.lines_at - (256 - line) * 64
            struct.pack_into("<QI", self.bytes, at, claim, 1 | 9 << 1 | 50 << 17)
        struct.pack_into("<I", self.bytes, 4096 + 24, len(lines))  # writers

    def add_to_seq(self, slot: int, by: int) -> None:
        at = self.slots_at + slot * self.slot_bytes
        struct.pack_into("<Q", self.bytes, at, struct.unpack_from("<Q", self.bytes, at)[0] + by)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def shared(path: Path) -> Iterator[EmbeddingCache]:
    with new_store(path) as store:
        yield store


def test_a_row_that_is_being_written_is_a_raced_miss(shared: EmbeddingCache, path: Path) -> None:
    put(shared, [1])
    file = File(path)
    file.add_to_seq(file.slot_of_way(0), 1)
    changes = moved(shared, lambda s: get(s, [1]))
    assert changes == {"misses": 1, "misses_raced": 1, "probes": 4}
    file.add_to_seq(file.slot_of_way(0), -1)
    assert moved(shared, lambda s: get(s, [1])) == {**HIT, "hints_set": 1}


def test_a_put_gives_up_when_stopped_writers_hold_every_slot(
    shared: EmbeddingCache, path: Path
) -> None:
    File(path).set_word(0, 0xFFFF)
    changes = moved(shared, lambda s: put(s, [1, 2]))
    assert changes == {"puts_given_up": 2, "puts_no_slot": 2, "put_set_reads": 2}
    assert put(shared, [3]) == 0 and get(shared, [3]).ages.tolist() == [-1]
    File(path).set_word(0xFFFF, 0)
    assert put(shared, [3]) == 1 and shared.check() == []


def test_a_way_is_lost_when_stopped_writers_hold_the_spare_slots(
    shared: EmbeddingCache, path: Path
) -> None:
    put(shared, range(WAYS))
    file = File(path)
    spare = {*range(16)} - {file.slot_of_way(way) for way in range(WAYS)}
    file.set_word(0, sum(1 << slot for slot in spare))
    changes = moved(shared, lambda s: put(s, [99]))
    assert changes == {"inserts": 1, "ways_lost": 1, "put_set_reads": 3}
    assert get(shared, [99]).ages.tolist() == [0] and len(scanned(shared).ids) == WAYS


def test_claims_of_the_dead_are_counted_as_they_are_taken_back(
    shared: EmbeddingCache, path: Path
) -> None:
    """Attachment 50 is nobody; its journal line says that it was filling slot 3 of set 0."""
    file = File(path)
    file.lend_lines(range(77, 78), claim=1 | 3 << 1 | 9 << 5)
    file.set_word(0, 1 << 3)
    assert moved(shared, lambda s: s.reap()) == {"claims_reaped": 1}
    assert moved(shared, lambda s: s.reap()) == {} and shared.check() == []


def test_a_put_gives_up_without_a_journal_line_and_frees_those_of_the_dead(
    shared: EmbeddingCache, path: Path
) -> None:
    File(path).lend_lines(range(256), claim=9 << 5)
    changes = moved(shared, lambda s: put(s, [1, 2]))
    assert changes == {"puts_given_up": 2, "puts_no_journal": 2}
    assert put(shared, [1, 2]) == 2 and shared.check() == []


def test_what_was_recovered_is_counted_by_who_recovered_it(
    shared: EmbeddingCache, path: Path, tmp_path: Path
) -> None:
    put(shared, range(10))
    copy = tmp_path / "copy"
    shutil.copy(path, copy)  # of a store in use: never closed
    file = File(copy)
    file.bytes[file.slots_at + file.slot_of_way(4) * file.slot_bytes + 64] ^= 1
    file.bytes.close()
    with EmbeddingCache.attach(copy) as recovered:
        stats = recovered.stats()
        counts = stats["recovered_kept"], stats["recovered_dropped"], stats["entries"]
        assert counts == (9, 1, 9) and recovered.check() == []
        assert (get(recovered, range(10)).ages >= 0).sum() == 9
    with EmbeddingCache.attach(copy) as again:
        assert again.stats()["recovered_kept"] == again.stats()["recovered_dropped"] == 0


def test_counts_are_each_users_own_and_entries_are_shared(
    shared: EmbeddingCache, path: Path
) -> None:
    put(shared, [1, 2, 3])
    with EmbeddingCache.attach(path) as other:
        stats = other.stats()
        assert (stats["entries"], stats["inserts"], stats["put_set_reads"]) == (3, 0, 0)
        get(other, [1])
        assert other.stats()["hits"] == 1 and shared.stats()["hits"] == 0
        other.invalidate_many(keys_of([1]))
        assert shared.stats()["entries"] == 2 and shared.stats()["invalidations"] == 0


def test_huge_bytes_are_part_of_all_bytes() -> None:
    store = EmbeddingCache.create(capacity=20_000, dim=64, huge_pages=True)
    assert 0 <= store.stats()["huge_bytes"] <= store.stats()["bytes"] == store.bytes


def test_rule_and_quota_follow_what_misses_less() -> None:
    """Sets that follow SIEVE with a quota of 1 miss; those that try something else do not."""
    store = new_store(capacity=WAYS * 128)
    rest = [number for index in (1, 3, 65, 67) for number in ids_in_set(store, index, 50)]
    for _ in range(120):
        get(store, rest)
    stats = store.stats()
    assert stats["policy_sieve"] == 0 and 1 < stats["speculative_quota"] <= 8


def test_samples_hold_one_set_in_64() -> None:
    store = new_store(capacity=WAYS * 70)
    inside, outside = ids_in_set(store, 4, WAYS), ids_in_set(store, 5, WAYS)
    put(store, [*inside, *outside], now_ms=1_000)
    get(store, [*inside, *outside], now_ms=1_005)
    get(store, [inside[0], outside[0]], now_ms=1_025)
    samples = store.samples()
    assert {name: held.count for name, held in samples.items()} == {
        "age_at_hit_ms": WAYS + 1,
        "reuse_gap_ms": 1,
        "lifetime_ms": 0,
    }
    assert samples["age_at_hit_ms"].sum == 5 * WAYS + 25 and samples["reuse_gap_ms"].sum == 20
    for index in (4, 5):
        put(store, ids_in_set(store, index, 3, start=10**6), now_ms=1_030)
    assert samples["lifetime_ms"].count == 0, "copies do not move"
    lifetimes = store.samples()["lifetime_ms"]
    assert (lifetimes.count, lifetimes.sum) == (3, 90)


def test_samples_of_misses_are_no_ages() -> None:
    store = new_store(capacity=WAYS * 70)
    absent = ids_in_set(store, 4, 1)
    get(store, absent, now_ms=10)
    get(store, absent, now_ms=17)
    samples = store.samples()
    assert samples["age_at_hit_ms"].count == 0 and samples["reuse_gap_ms"].sum == 7
    assert np.isnan(samples["lifetime_ms"].quantile(0.5))
