"""The fills of one pair model against a naive twin: whose they are, how old, of which version."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fill_cases import (
    DEFAULT,
    HOUR_MS,
    SPEC,
    EvenItems,
    SetClock,
    counting,
    filled,
    items_of,
    land,
    vector_of,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.errors import ConfigError
from predawn.server.pair_aggregates import FADES_AFTER, FillRules
from predawn.server.request import Source, UserId

USERS: list[UserId] = [0, 7, "0"]
ITEMS = [0, 1, 2**63, 2**64 - 1]
ORDERS = [
    (),
    (Source.USER_MEAN,),
    (Source.RECENT,),
    (Source.NEIGHBOUR,),
    (Source.USER_MEAN, Source.NEIGHBOUR),
    (Source.NEIGHBOUR, Source.USER_MEAN),
    (Source.NEIGHBOUR, Source.RECENT, Source.USER_MEAN),
]
ALIKE = [{1, 2}, {3}]
FILL_TTL_MS, LENGTH = 60_000, 3


@dataclass
class Mean:
    """What the twin knows of a user: in float64, one embedding after the other of a batch."""

    row: np.ndarray[tuple[int], np.dtype[np.float64]]
    count: int
    last: list[list[float]]
    at_ms: int
    version: int


class FillsAndTwin(RuleBasedStateMachine):
    """In memory or in files; a restart closes the tables and attaches to them again."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SetClock()
        self.kept: dict[tuple[UserId, int], tuple[list[float], int, int]] = {}
        self.means: dict[UserId, Mean] = {}
        self.serving: set[int] = set()
        self.computed = 0
        self.folder = tempfile.TemporaryDirectory()

    @initialize(in_files=st.booleans(), order=st.sampled_from(ORDERS))
    def create(self, in_files: bool, order: tuple[Source, ...]) -> None:
        self.place = StorePlace(self.folder.name if in_files else "")
        self.rules = FillRules(order, FILL_TTL_MS, LENGTH)
        self.cache = filled(self.clock, self.rules, EvenItems(), place=self.place)

    @rule(
        wanted=st.lists(
            st.tuples(st.sampled_from(USERS), st.lists(st.sampled_from(ITEMS), unique=True)),
            min_size=1,
            max_size=4,
            unique_by=lambda each: each[0],
        ),
        version=st.sampled_from([1, 1, 2, 3]),
    )
    def lands(self, wanted: list[tuple[UserId, list[int]]], version: int) -> None:
        rows = counting(self.computed, sum(len(items) for _, items in wanted))
        self.computed += rows.size
        assert land(self.cache, wanted, rows, version) == len(rows)
        left = rows.tolist()
        for user, items in wanted:
            new, left = left[: len(items)], left[len(items) :]
            for item, row in zip(items, new, strict=True):
                self.kept[user, item] = (row, self.clock.now_ms, version)
            if new and (not self.serving or version in self.serving):
                self.means[user] = self.with_new(self.means.get(user), new, version)

    def with_new(self, before: Mean | None, new: list[list[float]], version: int) -> Mean:
        if before is None or not self.is_served(before.at_ms, before.version, FILL_TTL_MS):
            before = Mean(np.zeros(3), 0, [], 0, 0)
        n = len(new)
        weight = max(n / (before.count + n), n / FADES_AFTER)
        row = before.row + (np.mean(new, axis=0) - before.row) * weight
        last = [*before.last, *new][-LENGTH:]
        return Mean(row, min(before.count + n, FADES_AFTER), last, self.clock.now_ms, version)

    def is_served(self, at_ms: int, version: int, ttl_ms: int) -> bool:
        young = self.clock.now_ms - at_ms <= ttl_ms
        return young and (not self.serving or version in self.serving)

    @rule(ms=st.sampled_from([1, 10, 30_000, 59_999, HOUR_MS]))
    def time_passes(self, ms: int) -> None:
        self.clock.now_ms += ms

    @rule(users=st.lists(st.sampled_from(USERS), min_size=1, max_size=3))
    def invalidates(self, users: list[UserId]) -> None:
        self.cache.invalidate(users, None)
        self.kept = {pair: kept for pair, kept in self.kept.items() if pair[0] not in users}
        for user in users:
            self.means.pop(user, None)
        self.clock.now_ms += 1  # what lands in the same millisecond counts as older

    @rule(alike=st.sampled_from(ALIKE))
    def another_version_serves(self, alike: set[int]) -> None:
        self.serving = alike
        self.cache.replace_version("fm", min(alike), alike)

    @rule()
    def restarts(self) -> None:
        if self.place.directory:
            self.cache.close()
            self.cache = filled(self.clock, self.rules, EvenItems(), place=self.place)
            if self.serving:
                self.cache.replace_version("fm", min(self.serving), self.serving)

    @rule(
        user=st.sampled_from(USERS),
        ttl_ms=st.sampled_from([0, 10, 60_000, 2 * HOUR_MS]),
        value=st.none() | st.integers(0, 9),
    )
    def reads(self, user: UserId, ttl_ms: int, value: int | None) -> None:
        """All items that any user may have, and two that none has."""
        items = [*ITEMS, 98, 99]
        vector = None if value is None else vector_of(value)
        hashes = items_of(items)
        ages = self.cache.peek("fm", user, hashes, ttl_ms).tolist()
        levels = self.cache.levels("fm", user, hashes, vector).tolist()
        reading = self.cache.read("fm", user, hashes, ttl_ms, vector)
        for i, item in enumerate(items):
            fill = self.fill(user, item, value)
            kept = self.kept.get((user, item))
            direct = kept is not None and self.is_served(kept[1], kept[2], ttl_ms)
            if kept is not None and direct:
                fill_or_own = (kept[0], self.clock.now_ms - kept[1], Source.DIRECT)
            else:
                fill_or_own = fill
            row, age_ms, source = fill_or_own
            assert reading.rows[i].tolist() == pytest.approx(row, rel=1e-4)
            assert (reading.ages_ms[i], reading.sources[i]) == (age_ms, source)
            assert ages[i] == (age_ms if direct else -1)
            assert levels[i] == fill[2]

    def fill(self, user: UserId, item: int, value: int | None) -> tuple[list[float], int, Source]:
        mean = self.means.get(user)
        if mean is not None and not self.is_served(mean.at_ms, mean.version, FILL_TTL_MS):
            mean = None
        for level in self.rules.order:
            if level is Source.NEIGHBOUR and value is not None and item % 2 == 0:
                return [value, item, 100], -1, level
            if level is not Source.NEIGHBOUR and mean is not None:
                row = mean.row if level is Source.USER_MEAN else np.mean(mean.last, axis=0)
                return row.tolist(), self.clock.now_ms - mean.at_ms, level
        return DEFAULT.tolist(), -1, Source.DEFAULT

    def teardown(self) -> None:
        assert self.cache.check() == []
        self.cache.close()
        self.folder.cleanup()


TestFillsAndTwin = FillsAndTwin.TestCase
TestFillsAndTwin.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)

MEAN = FillRules((Source.USER_MEAN,), HOUR_MS)


@pytest.mark.parametrize("user", [7, "anna"])
def test_a_mean_from_before_an_invalidation_or_of_its_millisecond_is_not_served(
    user: UserId,
) -> None:
    clock = SetClock()
    cache = filled(clock, MEAN)

    def sources() -> list[int]:
        return cache.read("fm", user, items_of([1, 9]), HOUR_MS).sources.tolist()

    land(cache, [(user, [1])], counting(0, 1))
    clock.now_ms += 5
    assert sources() == [Source.DIRECT, Source.USER_MEAN]
    cache.invalidate([user], None)
    land(cache, [(user, [1])], counting(3, 1))
    clock.now_ms += 5
    assert sources() == [Source.DEFAULT, Source.DEFAULT]
    land(cache, [(user, [2])], counting(6, 1))
    reading = cache.read("fm", user, items_of([9]), HOUR_MS)
    assert reading.rows.tolist() == [[6, 7, 8]]  # nothing of what was there before


@pytest.mark.parametrize("level", [Source.USER_MEAN, Source.RECENT])
def test_a_mean_is_served_up_to_the_ttl_of_fills_and_starts_anew_after_it(level: Source) -> None:
    clock = SetClock()
    cache = filled(clock, FillRules((level,), FILL_TTL_MS, LENGTH))
    land(cache, [(7, [1])], counting(0, 1))
    clock.now_ms += FILL_TTL_MS
    reading = cache.read("fm", 7, items_of([9]), 10)
    assert (reading.sources.tolist(), reading.ages_ms.tolist()) == ([level], [FILL_TTL_MS])
    clock.now_ms += 1
    assert cache.read("fm", 7, items_of([9]), HOUR_MS).sources.tolist() == [Source.DEFAULT]
    land(cache, [(7, [1])], counting(30, 1))
    assert cache.read("fm", 7, items_of([9]), HOUR_MS).rows.tolist() == [[30, 31, 32]]


@pytest.mark.parametrize("level", [Source.USER_MEAN, Source.RECENT])
def test_versions_are_mixed_in_a_mean_only_if_they_are_alike(level: Source) -> None:
    cache = filled(SetClock(), FillRules((level,), FILL_TTL_MS, LENGTH))

    def mean() -> list[float]:
        return cache.read("fm", 7, items_of([9]), HOUR_MS).rows[0].tolist()

    cache.replace_version("fm", 1)
    land(cache, [(7, [1])], counting(0, 1), version=1)
    cache.replace_version("fm", 2, {1, 2})
    assert mean() == [0, 1, 2]
    land(cache, [(7, [1])], counting(6, 1), version=2)
    assert mean() == [3, 4, 5]
    cache.replace_version("fm", 3)
    assert mean() == DEFAULT.tolist()
    land(cache, [(7, [1])], counting(30, 1), version=3)
    assert mean() == [30, 31, 32]


def test_a_clock_that_goes_back_serves_no_mean_from_before_an_invalidation() -> None:
    clock = SetClock()
    cache = filled(clock, MEAN)
    land(cache, [(7, [1])], counting(0, 1))
    clock.now_ms += 100
    cache.invalidate([7], None)
    clock.now_ms -= 5_000
    assert cache.read("fm", 7, items_of([9]), HOUR_MS).sources.tolist() == [Source.DEFAULT]


def test_what_lands_for_a_user_who_has_asked_is_told_to_neighbours_with_his_last_vector() -> None:
    neighbours = EvenItems()
    cache = filled(SetClock(), FillRules((Source.NEIGHBOUR,)), neighbours)
    cache.heard("fm", 7, vector_of(1))
    cache.heard("fm", 7, vector_of(2))
    land(cache, [(7, [1, 3]), (8, [5])], counting(0, 3), version=4)
    assert neighbours.learnt == [1, 2]
    assert neighbours.added == [(7, 2, [1, 3], [[0, 1, 2], [3, 4, 5]], 4)]
    assert cache.levels("fm", 7, items_of([2, 3])).tolist() == [Source.NEIGHBOUR, Source.DEFAULT]
    cache.invalidate([7], None)
    assert cache.levels("fm", 7, items_of([2])).tolist() == [Source.DEFAULT]
    land(cache, [(7, [1])], counting(0, 1))
    assert len(neighbours.added) == 1


def test_what_another_version_computed_is_told_to_nobody() -> None:
    neighbours = EvenItems()
    order = (Source.NEIGHBOUR, Source.USER_MEAN)
    cache = filled(SetClock(), FillRules(order), neighbours)
    cache.replace_version("fm", 2)
    cache.heard("fm", 7, vector_of(1))
    land(cache, [(7, [1])], counting(0, 1), version=1)
    assert neighbours.added == []
    assert cache.read("fm", 7, items_of([9]), HOUR_MS).sources.tolist() == [Source.DEFAULT]


def test_neighbours_follow_the_versions_of_pairs_and_of_users() -> None:
    neighbours = EvenItems()
    cache = filled(SetClock(), FillRules((Source.NEIGHBOUR,)), neighbours)
    cache.replace_version("fm", 3, {2})
    cache.heard("fm", 7, vector_of(1))
    assert cache.knows_by("sum", 1) and cache.knows_by("sum", 2)
    cache.replace_user_version("sum", 2)
    assert (neighbours.versions, neighbours.user_versions) == ([(3, {2})], [2])
    assert cache.knows_by("sum", 2) and not cache.knows_by("sum", 1)
    land(cache, [(7, [1])], counting(0, 1), version=3)
    assert neighbours.added == []  # his last vector was of the version before


def test_a_level_that_is_not_in_the_order_is_neither_kept_nor_asked(tmp_path: Path) -> None:
    neighbours, place = EvenItems(), StorePlace(str(tmp_path))
    cache = filled(SetClock(), FillRules(), neighbours, place=place)
    cache.heard("fm", 7, vector_of(1))
    land(cache, [(7, [1])], counting(0, 1))
    reading = cache.read("fm", 7, items_of([2]), HOUR_MS, vector_of(1))
    assert reading.sources.tolist() == [Source.DEFAULT]
    assert neighbours.learnt == neighbours.added == []
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"fm.pairs.integer.store", "fm.invalidated.integer.store"}
    cache.close()


def test_stats_show_the_quota_in_force_and_what_is_kept_by_user() -> None:
    cache = filled(SetClock(), MEAN)
    land(cache, [(7, [1, 2]), ("anna", [1])], counting(0, 3))
    stats = cache.stats()["fm"]
    assert (stats["entries"], stats["fill_entries"]) == (3, 2)
    assert stats["speculative_quota"] == stats["policy_sieve"] == 1
    assert stats["fill_bytes"] > 0


def test_a_ring_that_no_row_can_hold_is_refused() -> None:
    rules = FillRules((Source.RECENT,), HOUR_MS, recent_length=200)
    wide = TableSpec("fm", 512, 1, "fp16", 64, np.zeros(512, np.float32), holds="pairs")
    with pytest.raises(ConfigError, match=r"pairs.fm.recent_length: at most 128 embeddings of 512"):
        filled(SetClock(), rules, spec=wide)
    assert filled(SetClock(), rules, spec=SPEC).models() == ("fm",)
