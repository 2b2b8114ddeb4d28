"""The pair store against a dictionary: a row is that user's and that item's, and not too old."""

import asyncio
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.errors import ConfigError, UnknownName
from predawn.server.pair_cache import PairCache
from predawn.server.request import F32, U64, UserId, UserItems

SEED = bytes(range(32))
DEFAULT = np.array([-1, -2, -3], dtype=np.float32)
SPEC = TableSpec("fm", 3, 1, "fp32", 4096, DEFAULT, holds="pairs")
HOUR_MS = 3_600_000
USERS: list[UserId] = [0, 1, 2**64 - 1, "0", "1", "anna", "anna\0", "é" * 100]
ITEMS = [0, 1, 2, 2**63, 2**64 - 1, int.from_bytes(b"\0" * 7 + b"a", "little")]


@dataclass
class SetClock:
    """A clock that stands where it is put."""

    now_ms: int = 1_700_000_000_000

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ns(self) -> int:
        return self.now_ms * 1_000_000


def items_of(numbers: list[int]) -> U64:
    return np.array(numbers, dtype=np.uint64)


def cache_of(clock: SetClock, spec: TableSpec = SPEC, place: StorePlace | None = None) -> PairCache:
    return PairCache([spec], clock, SEED, place or StorePlace())


def land(cache: PairCache, wanted: list[tuple[UserId, list[int]]], rows: F32) -> int:
    """Makes the tables and lands the rows as computed by snapshot 1."""
    assert asyncio.run(cache.ready("fm", [user for user, _ in wanted]))
    pairs = [UserItems(user, items_of(items)) for user, items in wanted]
    return cache.land("fm", pairs, rows, 1)


def counting(first: int, n: int) -> F32:
    """Rows that differ."""
    return np.arange(first, first + 3 * n, dtype=np.float32).reshape(n, 3)


@dataclass
class Kept:
    row: list[float]
    at_ms: int


class PairsAndTwin(RuleBasedStateMachine):
    """In memory or in files; a restart closes the tables and attaches to them again."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SetClock()
        self.kept: dict[tuple[UserId, int], Kept] = {}
        self.computed = 0
        self.folder = tempfile.TemporaryDirectory()

    @initialize(in_files=st.booleans())
    def create(self, in_files: bool) -> None:
        self.place = StorePlace(self.folder.name if in_files else "")
        self.cache = cache_of(self.clock, place=self.place)

    @rule(
        wanted=st.lists(
            st.tuples(st.sampled_from(USERS), st.lists(st.sampled_from(ITEMS), unique=True)),
            min_size=1,
            max_size=4,
            unique_by=lambda each: each[0],
        )
    )
    def lands(self, wanted: list[tuple[UserId, list[int]]]) -> None:
        pairs = [(user, item) for user, items in wanted for item in items]
        rows = counting(self.computed, len(pairs))
        self.computed += 3 * len(pairs)
        assert land(self.cache, wanted, rows) == len(pairs)
        for pair, row in zip(pairs, rows.tolist(), strict=True):
            self.kept[pair] = Kept(row, self.clock.now_ms)

    @rule(ms=st.sampled_from([1, 10, 59_999, HOUR_MS]))
    def time_passes(self, ms: int) -> None:
        self.clock.now_ms += ms

    @rule(users=st.lists(st.sampled_from(USERS), min_size=1, max_size=3))
    def invalidates(self, users: list[UserId]) -> None:
        self.cache.invalidate(users, None)
        self.kept = {pair: kept for pair, kept in self.kept.items() if pair[0] not in users}
        self.clock.now_ms += 1  # what lands in the same millisecond counts as older

    @rule()
    def restarts(self) -> None:
        if self.place.directory:
            self.cache.close()
            self.cache = cache_of(self.clock, place=self.place)

    @rule(
        user=st.sampled_from(USERS),
        items=st.lists(st.sampled_from(ITEMS), unique=True),
        ttl_ms=st.sampled_from([0, 10, 60_000, 2 * HOUR_MS]),
    )
    def reads(self, user: UserId, items: list[int], ttl_ms: int) -> None:
        reading = self.cache.read("fm", user, items_of(items), ttl_ms)
        for item, row, age_ms in zip(
            items, reading.rows.tolist(), reading.ages_ms.tolist(), strict=True
        ):
            kept = self.kept.get((user, item))
            if kept is None or self.clock.now_ms - kept.at_ms > ttl_ms:
                assert (row, age_ms) == (DEFAULT.tolist(), -1)
            else:
                assert (row, age_ms) == (kept.row, self.clock.now_ms - kept.at_ms)

    def teardown(self) -> None:
        assert self.cache.check() == []
        self.cache.close()
        self.folder.cleanup()


TestPairsAndTwin = PairsAndTwin.TestCase
TestPairsAndTwin.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_a_row_is_rounded_as_the_store_keeps_it_and_counted_as_written() -> None:
    clock = SetClock()
    cache = cache_of(clock, TableSpec("fm", 3, 1, "fp16", 64, DEFAULT, holds="pairs"))
    rows = np.array([[1 / 3, 70_000, 1e-3]], dtype=np.float32)
    assert land(cache, [("u", [5])], rows) == 1
    expected = np.clip(rows, -65_504, 65_504).astype(np.float16).astype(np.float32)
    assert cache.read("fm", "u", items_of([5]), 0).rows.tolist() == expected.tolist()
    assert cache.stats()["fm"]["inserts"] == 1


def test_what_lands_in_the_millisecond_of_an_invalidation_is_not_served() -> None:
    clock = SetClock()
    cache = cache_of(clock)
    land(cache, [(7, [1])], counting(0, 1))
    cache.invalidate([7], None)
    land(cache, [(7, [2])], counting(3, 1))
    clock.now_ms += 5
    assert cache.read("fm", 7, items_of([1, 2]), HOUR_MS).ages_ms.tolist() == [-1, -1]
    land(cache, [(7, [1])], counting(6, 1))
    assert cache.read("fm", 7, items_of([1, 2]), HOUR_MS).ages_ms.tolist() == [0, -1]


def test_a_clock_that_goes_back_serves_nothing_from_before_an_invalidation() -> None:
    clock = SetClock()
    cache = cache_of(clock)
    land(cache, [(7, [1])], counting(0, 1))
    clock.now_ms += 100
    cache.invalidate([7], None)
    clock.now_ms -= 5_000
    assert cache.read("fm", 7, items_of([1]), HOUR_MS).ages_ms.tolist() == [-1]
    clock.now_ms += 20_000
    assert cache.read("fm", 7, items_of([1]), HOUR_MS).ages_ms.tolist() == [-1]


def test_an_invalidation_after_the_clock_went_back_takes_what_was_written_before_that() -> None:
    clock = SetClock()
    cache = cache_of(clock)
    land(cache, [(7, [1])], counting(0, 1))
    clock.now_ms -= 5_000
    cache.invalidate([7], None)
    for _ in range(2):
        clock.now_ms += 1_000
        assert cache.read("fm", 7, items_of([1]), HOUR_MS).ages_ms.tolist() == [-1]
        cache.invalidate([7], None)
    clock.now_ms += 4_000
    land(cache, [(7, [1])], counting(3, 1))
    assert cache.read("fm", 7, items_of([1]), HOUR_MS).ages_ms.tolist() == [0]


@pytest.mark.parametrize("user", [7, "anna"])
def test_more_invalidations_than_are_kept_remove_all_pairs(user: UserId) -> None:
    """A table of 16 pairs keeps the instants of about as many users."""
    clock = SetClock()
    cache = cache_of(clock, TableSpec("fm", 3, 1, "fp32", 16, DEFAULT, holds="pairs"))
    land(cache, [(user, [1, 2])], counting(0, 2))
    clock.now_ms += 5
    others: list[UserId] = [f"u{n}" if isinstance(user, str) else n for n in range(100, 200)]
    cache.invalidate(others[:1], None)
    assert cache.read("fm", user, items_of([1, 2]), HOUR_MS).ages_ms.tolist() == [5, 5]
    cache.invalidate(others, None)
    assert cache.read("fm", user, items_of([1, 2]), HOUR_MS).ages_ms.tolist() == [-1, -1]
    assert cache.stats()["fm"]["entries"] == 0
    assert cache.check() == []


def test_an_invalidation_reaches_the_other_servers_of_a_shared_store(tmp_path: Path) -> None:
    clock, place = SetClock(), StorePlace(str(tmp_path))
    early = cache_of(clock, place=place)  # knows of no table yet
    first = cache_of(clock, place=place)
    land(first, [(7, [1]), ("anna", [1])], counting(0, 2))
    clock.now_ms += 5
    early.invalidate([7, "anna"], ["fm"])
    for user in (7, "anna"):
        assert first.read("fm", user, items_of([1]), HOUR_MS).ages_ms.tolist() == [-1]
    for cache in (early, first):
        cache.close()


def test_pairs_and_users_of_one_name_lie_in_different_files(tmp_path: Path) -> None:
    place = StorePlace(str(tmp_path))
    land(cache_of(SetClock(), place=place), [(7, [1]), ("anna", [1])], counting(0, 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fm.invalidated.integer.store",
        "fm.invalidated.string.store",
        "fm.pairs.integer.store",
        "fm.pairs.string.store",
    ]


def test_a_table_that_cannot_be_made_is_said_once_and_costs_no_more_than_its_pairs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("no directory")
    cache = cache_of(SetClock(), place=StorePlace(str(tmp_path / "taken")))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert not asyncio.run(cache.ready("fm", [7]))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "pairs of model fm cannot be kept" in caplog.text
    assert cache.read("fm", 7, items_of([1]), HOUR_MS).ages_ms.tolist() == [-1]


def test_names_and_defaults_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    cache = cache_of(SetClock())
    with pytest.raises(UnknownName, match=r"models\[1\]: unknown name 'fmm'; did you mean 'fm'"):
        cache.invalidate([7], ["fm", "fmm"])
    short = TableSpec("fm", 3, 1, "fp32", 64, DEFAULT[:2], holds="pairs")
    with pytest.raises(ConfigError, match=r"pairs.fm.default: has 2 values, the model has 3"):
        cache_of(SetClock(), short)
    place = StorePlace(str(tmp_path))
    land(cache_of(SetClock(), place=place), [(7, [1])], counting(0, 1))
    wide = TableSpec("fm", 4, 1, "fp32", 64, np.zeros(4, dtype=np.float32), holds="pairs")
    with pytest.raises(ConfigError, match=r"store.path: .*fm.pairs.integer.store holds dim 3"):
        cache_of(SetClock(), wide, place)


@pytest.mark.parametrize("user", [7, "anna"])
def test_pairs_of_the_version_that_serves_are_read_and_those_of_others_found_again(
    user: UserId,
) -> None:
    clock = SetClock()
    cache = cache_of(clock)
    cache.replace_version("fm", 1)

    def ages_ms() -> list[int]:
        reading = cache.read("fm", user, items_of([1, 2, 3]), HOUR_MS)
        absent = reading.ages_ms < 0
        assert (reading.rows[absent] == DEFAULT).all()
        assert not (reading.rows[~absent] == DEFAULT).any()
        return reading.ages_ms.tolist()

    land(cache, [(user, [1, 2])], counting(0, 2))
    clock.now_ms += 5
    assert ages_ms() == [5, 5, -1]
    cache.replace_version("fm", 2)
    assert ages_ms() == [-1, -1, -1]
    cache.land("fm", [UserItems(user, items_of([2, 3]))], counting(6, 2), 2)
    assert ages_ms() == [-1, 0, 0]
    cache.replace_version("fm", 1)
    assert ages_ms() == [5, -1, -1]  # what version 2 has overwritten is computed again
    cache.replace_version("fm", 3, alike=(1, 3))
    assert ages_ms() == [5, -1, -1]
    cache.replace_version("fm", 3, alike=(1, 2))
    assert ages_ms() == [5, 0, 0]


def test_another_default_is_served_from_then_on() -> None:
    cache = cache_of(SetClock())
    assert cache.default("fm").tolist() == DEFAULT.tolist()
    cache.replace_default("fm", np.array([4, 5, 6], dtype=np.float32))
    assert cache.read("fm", 7, items_of([1]), 0).rows.tolist() == [[4, 5, 6]]
    land(cache, [(7, [1])], counting(0, 1))
    assert cache.read("fm", 7, items_of([1, 2]), 0).rows.tolist() == [[0, 1, 2], [4, 5, 6]]
    with pytest.raises(ConfigError, match=r"pairs.fm.default: has 2 values, the model has 3"):
        cache.replace_default("fm", DEFAULT[:2])
