"""The ledger against one of dictionaries: every issued pair ends once, and for the same reason."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from predawn.csrc._ledger import Ledger
from predawn.server.request import I64, U8, U64

USED, WASTED, EVICTED, FAILED, VOID, REPLACED, FORGOTTEN = range(7)
CAPACITY, TTL_MS = 7, 20
DIRECT, DEFAULT = 0, 6

users = st.tuples(st.sampled_from([0, 1, 2, 2**64 - 1]), st.integers(0, 1))
items = st.lists(st.integers(0, 5), max_size=6, unique=True)
steps = st.integers(-3, 12)


def u64(values: list[int]) -> U64:
    """An array of ids."""
    return np.array(values, dtype=np.uint64)


def u8(values: list[int]) -> U8:
    """An array of codes."""
    return np.array(values, dtype=np.uint8)


@dataclass
class Open:
    """An open pair."""

    origin: int
    issued_ms: int
    landed_ms: int | None = None

    @property
    def instant_ms(self) -> int:
        return self.issued_ms if self.landed_ms is None else self.landed_ms


@dataclass
class Twin:
    """Open pairs in the order of their last instant, and the counts."""

    open: dict[tuple[tuple[int, int], int], Open] = field(default_factory=dict)
    outcomes: list[list[int]] = field(default_factory=lambda: [[0] * 7 for _ in range(4)])
    issued: list[int] = field(default_factory=lambda: [0] * 4)
    leads: list[int] = field(default_factory=list)
    now_ms: int = 0

    def end(self, key: tuple[tuple[int, int], int], outcome: int) -> None:
        self.outcomes[self.open.pop(key).origin][outcome] += 1

    def issue(self, key: tuple[tuple[int, int], int], origin: int) -> None:
        if key in self.open:
            self.end(key, REPLACED)
        if len(self.open) == CAPACITY:
            self.end(next(iter(self.open)), FORGOTTEN)
        self.open[key] = Open(origin, self.now_ms)
        self.issued[origin] += 1

    def land(self, key: tuple[tuple[int, int], int]) -> None:
        pair = self.open.get(key)
        if pair is not None and pair.landed_ms is None:
            self.open[key] = self.open.pop(key)
            pair.landed_ms = self.now_ms

    def ask(self, key: tuple[tuple[int, int], int], source: int, read_ms: int) -> None:
        pair = self.open.get(key)
        if pair is None or pair.landed_ms is None:
            return
        if source == DIRECT:
            self.leads.append(self.now_ms - pair.issued_ms)
            self.end(key, USED)
        elif self.now_ms - pair.landed_ms > TTL_MS:
            self.end(key, WASTED)
        elif pair.landed_ms < read_ms:
            self.end(key, EVICTED)

    def due(self, limit: int) -> list[tuple[tuple[int, int], int]]:
        found: list[tuple[tuple[int, int], int]] = []
        for key, pair in list(self.open.items()):
            if len(found) == limit or self.now_ms - pair.instant_ms <= TTL_MS:
                break
            if pair.landed_ms is None:
                self.end(key, FAILED)
            else:
                found.append(key)
        return found


class AgainstTheTwin(RuleBasedStateMachine):
    """Any calls in any order, on a clock that may go back."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(CAPACITY, TTL_MS, seed=7)
        self.twin = Twin()
        self.clock_ms = 0
        self.leads: list[int] = []

    def pass_time(self, ms: int) -> int:
        self.clock_ms = max(0, self.clock_ms + ms)
        self.twin.now_ms = max(self.twin.now_ms, self.clock_ms)
        return self.clock_ms

    @rule(user=users, items=items, origin=st.integers(0, 3), step=steps)
    def issue(self, user: tuple[int, int], items: list[int], origin: int, step: int) -> None:
        now_ms = self.pass_time(step)
        self.ledger.issue(*user, u64(items), u8([origin] * len(items)), now_ms)
        for item in items:
            self.twin.issue((user, item), origin)

    @rule(user=users, items=items, step=steps)
    def land(self, user: tuple[int, int], items: list[int], step: int) -> None:
        self.ledger.land(*user, u64(items), self.pass_time(step))
        for item in items:
            self.twin.land((user, item))

    @rule(user=users, items=items, step=steps)
    def fail(self, user: tuple[int, int], items: list[int], step: int) -> None:
        failed = self.ledger.fail(*user, u64(items), self.pass_time(step))
        keys = [(user, item) for item in items if (user, item) in self.twin.open]
        keys = [key for key in keys if self.twin.open[key].landed_ms is None]
        for key in keys:
            self.twin.end(key, FAILED)
        assert failed == len(keys)

    @rule(user=users, items=items, data=st.data(), step=steps, took=st.integers(0, 4))
    def ask(
        self, user: tuple[int, int], items: list[int], data: st.DataObject, step: int, took: int
    ) -> None:
        sources = [data.draw(st.sampled_from([DIRECT, DEFAULT])) for _ in items]
        now_ms = self.pass_time(step)
        lead, age = np.zeros(8, np.int64), np.zeros(8, np.int64)
        used = self.ledger.ask(*user, u64(items), u8(sources), now_ms - took, now_ms, lead, age)
        self.leads += lead[:used].tolist()
        assert (age[:used] <= lead[:used]).all() and (age >= 0).all()
        for item, source in zip(items, sources, strict=True):
            self.twin.ask((user, item), source, now_ms - took)

    @rule(user=users)
    def invalidate(self, user: tuple[int, int]) -> None:
        keys = [key for key in self.twin.open if key[0] == user]
        assert self.ledger.invalidate(*user) == len(keys)
        for key in keys:
            self.twin.end(key, VOID)

    @rule(limit=st.integers(0, 4), data=st.data(), step=steps)
    def settle(self, limit: int, data: st.DataObject, step: int) -> None:
        of, kinds, which = np.zeros(limit, np.uint64), np.zeros(limit, np.uint8), u64([0] * limit)
        count = self.ledger.due(self.pass_time(step), of, kinds, which)
        keys = self.twin.due(limit)
        named = zip(of.tolist(), kinds.tolist(), which.tolist(), strict=True)
        assert [((user, kind), item) for user, kind, item in named][:count] == keys
        there = [data.draw(st.booleans()) for _ in keys]
        self.ledger.settle(u8([int(each) for each in there]))
        for key, is_there in zip(keys, there, strict=True):
            self.twin.end(key, WASTED if is_there else EVICTED)

    @invariant()
    def agrees(self) -> None:
        twin, ledger = self.twin, self.ledger
        assert ledger.check() == []
        assert ledger.outcomes().tolist() == twin.outcomes
        assert ledger.issued().tolist() == twin.issued
        assert ledger.open == len(twin.open) <= CAPACITY
        assert ledger.open_users == len({user for user, _ in twin.open})
        assert int(ledger.unread().sum()) == sum(
            pair.landed_ms is not None for pair in twin.open.values()
        )
        assert self.leads == twin.leads


AgainstTheTwin.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstTheTwin = AgainstTheTwin.TestCase


def asked(ledger: Ledger, user: int, items: U64, sources: U8, now_ms: int) -> int:
    """A request that took no time."""
    lead: I64 = np.empty(len(items), np.int64)
    return ledger.ask(user, 0, items, sources, now_ms, now_ms, lead, lead.copy())


def test_many_pairs_keep_their_places() -> None:
    ledger = Ledger(5_000, 1_000, seed=3)
    rng = np.random.default_rng(0)
    for now_ms in range(300):
        user = int(rng.integers(0, 40))
        listed = rng.choice(4_000, 100, replace=False).astype(np.uint64)
        origins = rng.integers(0, 4, 100).astype(np.uint8)
        ledger.issue(user, 0, listed, origins, now_ms)
        ledger.land(user, 0, listed, now_ms)
        asked(ledger, user, listed[::3].copy(), origins[::3] * np.uint8(2), now_ms + 1)
    assert ledger.check() == [] and 4_900 < ledger.open <= 5_000
    assert int(ledger.issued().sum()) == 30_000 == int(ledger.outcomes().sum()) + ledger.open


def test_what_is_asked_is_counted_by_source_and_late_ones_apart() -> None:
    ledger = Ledger(10, 1_000, seed=3)
    ledger.issue(1, 0, u64([5, 6]), u8([0, 1]), 0)
    assert asked(ledger, 1, u64([5, 7, 8]), u8([6, 4, 0]), 1) == 0
    assert asked(ledger, 2, u64([5]), u8([6]), 1) == 0
    assert ledger.late == 1
    assert ledger.asked().tolist() == [1, 0, 0, 0, 1, 0, 2] + [0] * 9
    assert ledger.open == 2


def test_a_pair_that_landed_after_the_request_had_read_is_not_taken_for_evicted() -> None:
    ledger = Ledger(10, 1_000, seed=3)
    lead, age = np.empty(1, np.int64), np.empty(1, np.int64)
    ledger.issue(1, 0, u64([5]), u8([0]), 0)
    ledger.land(1, 0, u64([5]), 8)
    assert ledger.ask(1, 0, u64([5]), u8([DEFAULT]), 8, 10, lead, age) == 0
    assert ledger.open == 1
    assert ledger.ask(1, 0, u64([5]), u8([DEFAULT]), 9, 10, lead, age) == 0
    assert ledger.outcomes()[0].tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_wrong_arguments_are_named_and_change_nothing() -> None:
    ledger = Ledger(10, 1_000, seed=3)
    ok, one = u64([5]), np.empty(1, np.int64)
    calls: dict[str, Callable[[], object]] = {
        "capacity": lambda: Ledger(0, 1, 1),
        "ttl_ms": lambda: Ledger(1, 0, 1),
        "kind": lambda: ledger.land(1, 2, ok, 0),
        "items": lambda: ledger.land(1, 0, np.zeros(1), 0),  # type: ignore[arg-type]
        "origins": lambda: ledger.issue(1, 0, ok, u8([4]), 0),
        "origins: expected length 1": lambda: ledger.issue(1, 0, ok, u8([]), 0),
        "sources": lambda: ledger.ask(1, 0, ok, u8([16]), 0, 0, one, one),
        "lead_ms": lambda: ledger.ask(1, 0, ok, u8([0]), 0, 0, one[:0], one),
        "kinds": lambda: ledger.due(0, ok, u8([]), ok),
        "there": lambda: ledger.settle(u8([1])),
    }
    for argument, call in calls.items():
        with pytest.raises(ValueError, match=argument):
            call()
    assert ledger.open == 0 and ledger.check() == []


def test_settling_must_follow_at_once() -> None:
    ledger = Ledger(10, 5, seed=3)
    ledger.issue(1, 0, u64([5]), u8([0]), 0)
    ledger.land(1, 0, u64([5]), 0)
    assert ledger.due(6, u64([0]), u8([0]), u64([0])) == 1
    ledger.issue(1, 0, u64([6]), u8([0]), 6)
    with pytest.raises(ValueError, match="there: expected length 0"):
        ledger.settle(u8([1]))
