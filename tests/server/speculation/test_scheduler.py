"""The scheduler against a naive twin: within every bound, the best first, nothing lost."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.request import U8, UserId
from predawn.server.speculation.contract import Origin
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.scheduler import Candidates, Planned, Scheduler, Terms, found_in

MS = 1_000_000
LIMITS = PairLimits(
    ttl_ms=800, queue_limit=30, batch_users=2, batch_pairs=8, user_share=0.5, least_chance=0
)
ALL = Terms(price=0.0, tokens=1e9, costs=np.ones(len(Origin)), ahead=10**6, surplus=True)


def pairs(items: dict[int, float], now_ns: int = 0, origin: Origin = Origin.MISSED) -> Candidates:
    """Candidates of these items and values."""
    values = np.array(list(items.values()), dtype=np.float32)
    return Candidates(
        np.array(list(items), dtype=np.uint64),
        values,
        values,
        np.full(len(items), origin, dtype=np.uint8),
        np.full(len(items), now_ns, dtype=np.int64),
    )


@dataclass
class Rig:
    """A scheduler and how its candidates ended."""

    def __init__(self, limits: PairLimits = LIMITS, window: float = 1e9) -> None:
        self.ends: Counter[str] = Counter()
        self.queue = Scheduler(limits, window, self._ended)

    def _ended(self, outcome: str, origins: U8) -> None:
        self.ends[outcome] += len(origins)

    def take(self, terms: Terms = ALL, now_ns: int = 0) -> list[tuple[UserId, list[int]]]:
        return [(each.user, each.pairs.items.tolist()) for each in self.queue.take(now_ns, terms)]


OFFER = st.tuples(
    st.integers(0, 4),
    st.dictionaries(st.integers(0, 20), st.sampled_from([0.05, 0.2, 0.5, 0.9, 1.0]), max_size=12),
    st.booleans(),
    st.sampled_from([0.0, 3.0]),
)
TAKE = st.tuples(
    st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 20), st.integers(0, 5), st.booleans()
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.one_of(OFFER, OFFER, TAKE), st.sampled_from([0, 30, 500]))))
def test_bounds_hold_and_nothing_is_lost(steps: list[tuple[tuple[object, ...], int]]) -> None:
    rig, now_ns, offered, taken = Rig(), 0, 0, 0
    costs = np.array([1.0, 2.0, 1.0, 1.0])
    for step, pause_ms in steps:
        now_ns += pause_ms * MS
        if isinstance(step[1], dict):
            user, items, is_missed, encode = step
            origin = Origin.MISSED if is_missed else Origin.SHOWN
            rig.queue.offer(user, pairs(items, now_ns, origin), encode)  # type: ignore[arg-type]
            offered += len(items)  # type: ignore[arg-type]
        else:
            price, tokens, ahead, surplus = step
            terms = Terms(price, tokens, costs, ahead, surplus)  # type: ignore[arg-type]
            planned = rig.queue.take(now_ns, terms)
            check_slice(planned, terms, now_ns)
            taken += sum(len(each.pairs) for each in planned)
        assert len(rig.queue) <= LIMITS.queue_limit
        assert offered == len(rig.queue) + taken + rig.ends.total()


def check_slice(planned: list[Planned], terms: Terms, now_ns: int) -> None:
    """All bounds of one slice, and that nothing in it is too old or too cheap."""
    every = [item for each in planned for item in each.pairs.items.tolist()]
    assert len({each.user for each in planned}) == len(planned) <= LIMITS.batch_users
    assert len(every) <= LIMITS.batch_pairs
    spent = sum(float(terms.costs[each.pairs.origins].sum()) for each in planned)
    assert spent == sum(each.tokens for each in planned) <= terms.tokens
    assert sum(int((each.pairs.origins != Origin.MISSED).sum()) for each in planned) <= terms.ahead
    for each in planned:
        assert len(set(each.pairs.items.tolist())) == len(each.pairs) > 0
        assert (each.pairs.values >= 0.5 * np.float32(terms.price)).all()
        assert (np.diff(each.pairs.values) <= 0).all()
        missed = each.pairs.origins == Origin.MISSED
        oldest_ns = np.where(missed, 800 * MS, 100 * MS)
        assert (now_ns - each.pairs.asked_ns <= oldest_ns).all()


@settings(deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 50),
        st.tuples(st.lists(st.floats(0.1, 1), min_size=1, max_size=8), st.sampled_from([0, 5])),
        min_size=1,
        max_size=12,
    )
)
def test_the_best_value_per_cost_goes_first(users: dict[int, tuple[list[float], int]]) -> None:
    limits = replace(LIMITS, queue_limit=1_000, batch_users=1)
    rig, worth = Rig(limits), {}
    for user, (values, encode) in users.items():
        rig.queue.offer(user, pairs(dict(enumerate(values))), encode)
        best = sorted(np.array(values, dtype=np.float32).tolist(), reverse=True)
        sums = [sum(best[: n + 1]) / (encode + n + 1) for n in range(len(best))]
        worth[user] = max(sums)
    order = [user for _ in users for user, _ in rig.take()]
    assert sorted(order) == sorted(users)
    found = [worth[user] for user in order]  # type: ignore[index]
    assert found == pytest.approx(sorted(found, reverse=True))


def test_among_equals_who_asked_last_goes_first_and_a_full_queue_drops_who_asked_longest_ago() -> (
    None
):
    rig = Rig(replace(LIMITS, queue_limit=4, batch_users=1))
    for user in (1, 2, 3):
        rig.queue.offer(user, pairs({10 * user: 1, 10 * user + 1: 1}, now_ns=user), 0)
    assert rig.ends == {"full": 2}
    assert [rig.take() for _ in range(3)] == [[(3, [30, 31])], [(2, [20, 21])], []]


def test_a_full_queue_drops_the_least_worth() -> None:
    rig = Rig(replace(LIMITS, queue_limit=3))
    rig.queue.offer(1, pairs({1: 0.9, 2: 0.8}), 0)
    rig.queue.offer(2, pairs({3: 0.3, 4: 0.2}), 0)
    rig.queue.offer(3, pairs({5: 0.5}), 0)
    assert rig.ends == {"full": 2}
    assert rig.take() == [(1, [1, 2]), (3, [5])]


def test_a_new_proposal_replaces_the_old_one_and_missed_pairs_stay_missed() -> None:
    rig = Rig()
    rig.queue.offer(1, pairs({1: 0.9, 2: 0.8}, 5), 0)
    rig.queue.offer(1, pairs({2: 0.7, 3: 0.6}, 6, Origin.SHOWN), 0)
    assert rig.ends == {"coalesced": 1}
    rig.queue.offer(1, pairs({4: 0.5}, 7, Origin.POPULAR), 0)
    assert rig.ends == {"coalesced": 1, "stale": 1}
    (planned,) = rig.queue.take(7, ALL)
    found = zip(
        planned.pairs.items.tolist(),
        planned.pairs.origins.tolist(),
        planned.pairs.asked_ns.tolist(),
        strict=True,
    )
    assert list(found) == [(1, 0, 5), (2, 0, 5), (4, 2, 7)]


def test_one_user_takes_no_more_than_his_share_of_a_slice_from_another() -> None:
    rig = Rig()
    rig.queue.offer(1, pairs(dict.fromkeys(range(8), 1.0), 2), 0)
    rig.queue.offer(2, pairs(dict.fromkeys(range(8), 0.5), 1), 0)
    assert rig.take() == [(1, [0, 1, 2, 3]), (2, [0, 1, 2, 3])]
    assert rig.take() == [(1, [4, 5, 6, 7]), (2, [4, 5, 6, 7])]


def test_who_is_over_his_share_of_the_budget_waits_for_a_surplus() -> None:
    rig = Rig(replace(LIMITS, user_share=0.25), window=40)
    scarce = replace(ALL, surplus=False)
    rig.queue.offer(1, pairs(dict.fromkeys(range(8), 1.0)), 0)
    assert rig.take(scarce) == [(1, list(range(8)))]
    rig.queue.offer(1, pairs(dict.fromkeys(range(8, 16), 1.0)), 0)
    assert rig.take(scarce) == [(1, [8, 9])]  # ten of forty
    rig.queue.offer(2, pairs({1: 0.1}), 0)
    assert rig.take(scarce) == [(2, [1])]
    assert rig.take(scarce) == []
    assert rig.take(ALL) == [(1, list(range(10, 16)))]


def test_what_the_store_has_no_room_for_is_dropped_and_missed_pairs_go_on() -> None:
    rig = Rig()
    rig.queue.offer(1, pairs({1: 0.9, 2: 0.9}, origin=Origin.POPULAR), 0)
    rig.queue.offer(2, pairs({3: 0.5}), 0)
    assert rig.take(replace(ALL, ahead=0)) == [(2, [3])]
    assert (rig.ends, len(rig.queue)) == ({"full": 2}, 0)


@given(
    st.lists(st.integers(0, 30), unique=True, max_size=20),
    st.lists(st.integers(0, 30), unique=True, max_size=20),
)
def test_items_are_found_where_they_are(items: list[int], known: list[int]) -> None:
    of, among = np.array(items, dtype=np.uint64), np.array(known, dtype=np.uint64)
    found, places = found_in(of, among)
    assert found.tolist() == [item in known for item in items]
    assert among[places].tolist() == [item for item in items if item in known]
