"""Users who asked, against a list: same users, pairs, order and counts, whatever happens."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.request import UserId
from predawn.server.speculation.arrivals import Arrivals
from predawn.server.speculation.limits import PairLimits

MS = 1_000_000
LIMITS = PairLimits(ttl_ms=100, queue_limit=12, batch_pairs=6)
USERS: list[UserId] = [1, 2, 3, "1"]


class Twin:
    """A list of (user, [(item, asked at), ...] shown last first), who asked last at the end."""

    def __init__(self) -> None:
        self.users: list[tuple[UserId, list[tuple[int, int]]]] = []

    def pairs(self) -> int:
        return sum(len(items) for _, items in self.users)

    def add(self, user: UserId, items: list[int], running: set[int], now_ns: int) -> int:
        waiting = next((items for name, items in self.users if name == user), [])
        new = [item for item in items if item not in running]
        merged = [(item, now_ns) for item in new]
        merged += [(item, at) for item, at in waiting if item not in new]
        self.users = [each for each in self.users if each[0] != user]
        self.users.append((user, merged))
        return len(items) - len([item for item in new if item not in dict(waiting)])

    def shrink(self) -> int:
        before = self.pairs()
        if self.users:
            user, items = self.users[-1]
            self.users[-1] = user, items[: LIMITS.batch_pairs]
        while self.pairs() > LIMITS.queue_limit:
            user, items = self.users[0]
            self.users[0] = user, items[:-1]
            if not self.users[0][1]:
                del self.users[0]
        return before - self.pairs()

    def next(self, now_ns: int) -> tuple[UserId, list[tuple[int, int]], int]:
        user, items = self.users.pop()
        kept = [(item, asked) for item, asked in items if now_ns - asked <= LIMITS.ttl_ms * MS]
        return user, kept, len(items) - len(kept)


ADD = st.tuples(
    st.just("add"),
    st.sampled_from(USERS),
    st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=9),
    st.sets(st.integers(0, 9), max_size=3),
)
NEXT = st.tuples(st.just("next"), st.just(0), st.just([]), st.just(set()))


@settings(deadline=None)
@given(st.lists(st.tuples(st.one_of(ADD, ADD, NEXT), st.sampled_from([0, 10, 90])), max_size=25))
def test_they_keep_what_a_list_would(
    steps: list[tuple[tuple[str, UserId, list[int], set[int]], int]],
) -> None:
    arrivals, twin, now_ns = Arrivals(LIMITS), Twin(), 0
    for (what, user, items, running), pause_ms in steps:
        now_ns += pause_ms * MS
        if what == "add":
            hashes = np.array(items, dtype=np.uint64)
            expected = twin.add(user, items, running, now_ns)
            assert arrivals.add(user, hashes, running, now_ns) == expected
            assert arrivals.shrink() == twin.shrink()
        elif twin.users:
            arrival, stale = arrivals.next(now_ns)
            missed = zip(arrival.missed.tolist(), arrival.asked_ns.tolist(), strict=True)
            assert (arrival.user, list(missed), stale) == twin.next(now_ns)
        assert len(arrivals) == len(twin.users)
        assert arrivals.pairs == twin.pairs() <= LIMITS.queue_limit


def test_users_who_missed_nothing_are_bounded_too() -> None:
    arrivals, nothing = Arrivals(LIMITS), np.zeros(0, dtype=np.uint64)
    for user in range(100):
        arrivals.add(user, nothing, (), 0)
        assert arrivals.shrink() == 0
    assert len(arrivals) == LIMITS.queue_limit
    assert arrivals.next(0)[0].user == 99


def test_hashes_come_back_whole() -> None:
    arrivals = Arrivals(LIMITS)
    hashes = np.array([0, 2**63, 2**64 - 1], dtype=np.uint64)
    assert arrivals.add(2**64 - 1, hashes, (), 0) == 0
    arrival, _ = arrivals.next(0)
    assert (arrival.user, arrival.missed.dtype) == (2**64 - 1, np.uint64)
    assert arrival.missed.tolist() == hashes.tolist()
