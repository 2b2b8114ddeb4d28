"""The ledger of a pair model: sums of any day of traffic, users of both kinds, windows, reports."""

import json
import sys
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.metrics import PAIR_OUTCOMES
from predawn.server.request import I64, U8, U64, Source, UserId
from predawn.server.speculation.contract import Origin
from predawn.server.speculation.ledger import Ledger, LedgerLimits

TTL_MS = 1_000
LIMITS = LedgerLimits(capacity=50, ttl_ms=TTL_MS, window_ms=10_000, request_ms=10)
users = st.sampled_from([7, 2**64 - 1, "7", "anna", "ü"])


@dataclass
class Store:
    """What the store has, and who was looked for."""

    there: set[tuple[UserId, int]] = field(default_factory=set)
    looked: list[tuple[UserId, list[int]]] = field(default_factory=list)

    def peek(self, user: UserId, items: U64) -> I64:
        self.looked.append((user, items.tolist()))
        return np.array([5 if (user, i) in self.there else -1 for i in items.tolist()], np.int64)


def u64(*items: int) -> U64:
    """Items."""
    return np.array(items, dtype=np.uint64)


def of(origin: Origin, count: int) -> U8:
    """One origin, so many times."""
    return np.full(count, origin, dtype=np.uint8)


def landed(ledger: Ledger, user: UserId, items: U64, now_ms: int = 0) -> None:
    """Pairs issued and landed at once."""
    ledger.issued(user, items, of(Origin.SHOWN, len(items)), now_ms)
    assert ledger.landed(user, items, now_ms) == len(items)


def ended(ledger: Ledger) -> dict[str, int]:
    """Outcomes that there were, over all origins."""
    counts = ledger.counts()
    return {name: counts.total(name) for name in PAIR_OUTCOMES if counts.total(name)}


def test_integer_users_and_strings_never_meet() -> None:
    ledger = Ledger(LIMITS, Store().peek)
    landed(ledger, 7, u64(1))
    landed(ledger, "7", u64(1))
    assert ledger.open == 2
    assert ledger.asked("7", u64(1), of(Origin(Source.DIRECT), 1), 5) == 1
    assert ledger.invalidated(7) == 1
    assert ended(ledger) == {"used": 1, "void": 1}


def test_unread_pairs_are_looked_for_user_by_user_by_their_names() -> None:
    store = Store({("anna", 1), (7, 4)})
    ledger = Ledger(LIMITS, store.peek)
    landed(ledger, "anna", u64(1, 2))
    landed(ledger, 7, u64(3))
    landed(ledger, "7", u64(3))
    landed(ledger, 7, u64(4))
    assert ledger.settle(TTL_MS) == 0
    assert ledger.settle(TTL_MS + 1) == 5
    assert store.looked == [("anna", [1, 2]), (7, [3]), ("7", [3]), (7, [4])]
    assert ended(ledger) == {"wasted": 2, "evicted": 3}
    assert ledger.counted().waste() == 1.0
    assert ledger.check() == []


def test_names_of_string_users_do_not_pile_up() -> None:
    store = Store()
    ledger = Ledger(LIMITS, store.peek)
    name = " ".join(["user", "0"])
    landed(ledger, name, u64(1))
    held = sys.getrefcount(name)
    for n in range(1, 4_000):
        landed(ledger, f"user {n}", u64(1), n)
    assert sys.getrefcount(name) == held - 1
    assert ledger.settle(10_000) == 50
    assert [user for user, _ in store.looked] == [f"user {n}" for n in range(3_950, 4_000)]


def test_more_than_a_call_takes_is_settled_by_the_next() -> None:
    ledger = Ledger(LedgerLimits(5_000, TTL_MS), Store().peek)
    for n in range(30):
        landed(ledger, n, np.arange(100, dtype=np.uint64))
    assert [ledger.settle(2_000) for _ in range(4)] == [1024, 1024, 952, 0]
    assert ledger.open == 0


def test_issuing_settles_so_that_the_ledger_never_fills_with_what_is_over() -> None:
    ledger = Ledger(LedgerLimits(4 * TTL_MS, TTL_MS), Store().peek)
    for now_ms in range(0, 20 * TTL_MS, 10):
        landed(ledger, now_ms, np.arange(20, dtype=np.uint64), now_ms)
    assert ledger.open <= 2 * TTL_MS + 40
    assert ended(ledger) == {"evicted": 40 * TTL_MS - ledger.open}


def test_lead_and_age_count_from_issue_and_from_landing() -> None:
    ledger = Ledger(LIMITS, Store().peek)
    ledger.issued(7, u64(1), of(Origin.POPULAR, 1), 0)
    ledger.landed(7, u64(1), 20)
    assert ledger.asked(7, u64(1, 2), of(Origin(0), 2), 30) == 1
    assert ledger.asked(7, u64(1), of(Origin(0), 1), 31) == 0
    report = ledger.report()
    assert (report["lead_ms"]["p50"], report["age_at_use_ms"]["p50"]) == (30, 10)
    assert report["outcomes"]["popular"]["used"] == 1
    assert report["asked"] == 3 and report["coverage_exact"] == 1.0


def test_coverage_is_by_level() -> None:
    ledger = Ledger(LIMITS, Store().peek)
    sources = np.array([Source.DIRECT, *[Source.NEIGHBOUR] * 2, Source.DEFAULT], dtype=np.uint8)
    ledger.asked(7, u64(1, 2, 3, 4), sources, 0)
    report = ledger.report()
    assert report["sources"]["neighbour"] == 2 and report["sources"]["recent"] == 0
    assert (report["coverage_exact"], report["coverage_with_fills"]) == (0.25, 0.75)
    assert json.loads(json.dumps(report)) == report


def test_the_window_forgets_and_the_sums_do_not() -> None:
    ledger = Ledger(LIMITS, Store().peek)
    landed(ledger, 7, u64(*range(10)))
    ledger.settle(TTL_MS + 1)
    assert ledger.window().unused() == 10 and ledger.window().waste() == 1.0
    for now_ms in range(3_000, 20_000, 500):
        landed(ledger, 7, u64(1), now_ms)
        ledger.asked(7, u64(1), of(Origin(Source.DIRECT), 1), now_ms)
    window = ledger.window()
    assert window.unused() == 0 == window.waste() and 18 <= window.used() <= 23
    assert window.used([Origin.SHOWN]) == window.used() == window.direct() == window.pairs_asked()
    assert window.used([Origin.MISSED]) == 0
    assert ledger.counted().unused([Origin.SHOWN]) == 10


def test_a_clock_that_goes_back_stands_still() -> None:
    ledger = Ledger(LIMITS, Store().peek)
    landed(ledger, 7, u64(1), 5_000)
    assert ledger.settle(0) == 0
    assert ledger.asked(7, u64(1), of(Origin(Source.DIRECT), 1), 100) == 1
    assert ledger.report()["lead_ms"]["p99"] == 0


def test_two_models_have_ledgers_of_their_own() -> None:
    first, second = Ledger(LIMITS, Store().peek), Ledger(LIMITS, Store().peek)
    landed(first, 7, u64(1))
    assert (first.open, second.open) == (1, 0)
    assert second.asked(7, u64(1), of(Origin(Source.DIRECT), 1), 1) == 0
    assert ended(second) == {} and second.counted().direct() == 1


calls = st.tuples(
    st.sampled_from(["issued", "landed", "failed", "asked", "invalidated", "settle"]),
    users,
    st.lists(st.integers(0, 30), max_size=20, unique=True),
    st.integers(0, 400),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(calls, max_size=60))
def test_every_issued_pair_is_open_or_has_ended_once(
    day: list[tuple[str, UserId, list[int], int]],
) -> None:
    ledger, now_ms, issued = Ledger(LIMITS, Store({(7, 3)}).peek), 0, 0
    for call, user, listed, step in day:
        now_ms += step
        items, codes = u64(*listed), np.array([i % 4 for i in listed], dtype=np.uint8)
        if call == "issued":
            ledger.issued(user, items, codes, now_ms)
            issued += len(items)
        elif call == "asked":
            ledger.asked(user, items, codes, now_ms)
        elif call == "settle":
            ledger.settle(now_ms)
        elif call == "invalidated":
            ledger.invalidated(user)
        else:
            getattr(ledger, call)(user, items, now_ms)
    counts = ledger.counts()
    assert ledger.check() == []
    assert issued == sum(map(counts.total, PAIR_OUTCOMES)) + ledger.open
    assert sum(counts.open.values()) == ledger.open <= LIMITS.capacity
    assert ledger.unread_ahead <= ledger.unread == counts.unread <= ledger.open
