"""The queue of missed pairs against a list: same pairs, order and counts, whatever happens."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.request import UserId
from predawn.server.speculation.missed_queue import MissedQueue, PairLimits

MS = 1_000_000
LIMITS = PairLimits(ttl_ms=100, queue_limit=12, batch_users=2, batch_pairs=6)
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
        if merged:
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
            self.users = [each for each in self.users if each[1]]
        return before - self.pairs()

    def take(self, now_ns: int) -> tuple[list[tuple[UserId, list[int]]], int]:
        """Stale pairs go from whoever asked longest ago, and from those whose turn it is."""
        batch: list[tuple[UserId, list[int]]] = []
        room, before = LIMITS.batch_pairs, self.pairs()
        while self.users and self.trim(0, now_ns):
            pass
        while self.users and len(batch) < LIMITS.batch_users:
            user = self.users[-1][0]
            self.trim(-1, now_ns)
            if not self.users or self.users[-1][0] != user:
                continue
            if len(self.users[-1][1]) > room:
                break
            user, items = self.users.pop()
            batch.append((user, [item for item, _ in items]))
            room -= len(items)
        return batch, before - self.pairs() - (LIMITS.batch_pairs - room)

    def trim(self, at: int, now_ns: int) -> bool:
        user, items = self.users[at]
        kept = [(item, asked) for item, asked in items if now_ns - asked <= LIMITS.ttl_ms * MS]
        self.users[at] = user, kept
        if not kept:
            del self.users[at]
        return kept != items


ADD = st.tuples(
    st.just("add"),
    st.sampled_from(USERS),
    st.lists(st.integers(0, 9), unique=True, max_size=9),
    st.sets(st.integers(0, 9), max_size=3),
)
TAKE = st.tuples(st.just("take"), st.just(0), st.just([]), st.just(set()))


@settings(deadline=None)
@given(st.lists(st.tuples(st.one_of(ADD, ADD, TAKE), st.sampled_from([0, 10, 90])), max_size=25))
def test_it_keeps_what_a_list_would(
    steps: list[tuple[tuple[str, UserId, list[int], set[int]], int]],
) -> None:
    queue, twin, now_ns = MissedQueue(LIMITS), Twin(), 0
    for (what, user, items, running), pause_ms in steps:
        now_ns += pause_ms * MS
        if what == "add":
            hashes = np.array(items, dtype=np.uint64)
            expected = twin.add(user, items, running, now_ns)
            assert queue.add(user, hashes, running, now_ns) == expected
            assert queue.shrink() == twin.shrink()
        else:
            taken, stale = queue.take(now_ns)
            batch = [(each.user, each.item_hashes.tolist()) for each in taken]
            assert (batch, stale) == twin.take(now_ns)
        assert len(queue) == twin.pairs() <= LIMITS.queue_limit


def test_hashes_come_back_whole() -> None:
    queue = MissedQueue(LIMITS)
    hashes = np.array([0, 2**63, 2**64 - 1], dtype=np.uint64)
    assert queue.add(2**64 - 1, hashes, (), 0) == 0
    (batch,), _ = queue.take(0)
    assert (batch.user, batch.item_hashes.dtype) == (2**64 - 1, np.uint64)
    assert batch.item_hashes.tolist() == hashes.tolist()
