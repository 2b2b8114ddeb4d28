"""The missed pairs of one pair model that wait to be computed, user by user.

Invariant: a pair waits once; at most `queue_limit` pairs wait, and at most `batch_pairs` of one
user. Encoding a user costs more than an item, so a user's items stay together. Newest first: the
user who asked last is computed first, and who asked longest ago goes from a full queue; of one
user, the items that he was shown last. No clock and no loop: the instants are passed in.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

import numpy as np

from predawn.server.request import U64, UserId, UserItems

_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class PairLimits:
    """[pairs.NAME] of the config. ttl_ms: an embedding lasts so long, and a pair is not worth
    computing when it was asked for longer ago."""

    ttl_ms: int
    queue_limit: int = 65_536
    batch_users: int = 8
    batch_pairs: int = 1024


@dataclass(slots=True)
class _Waiting:
    items: dict[int, None]  # as a set that keeps its order: shown last first
    asked_ns: int


class MissedQueue:
    """See the module."""

    def __init__(self, limits: PairLimits) -> None:
        self._limits = limits
        self._users: OrderedDict[UserId, _Waiting] = OrderedDict()  # who asked last is last
        self._pairs = 0

    def __len__(self) -> int:
        """Pairs that wait."""
        return self._pairs

    def add(self, user: UserId, items: U64, running: Collection[int], now_ns: int) -> int:
        """Takes in what a request of `user` has missed: `items` uint64 [n], each once, but for
        those that are `running`; returns how many were waiting or running already."""
        new = dict.fromkeys(items.tolist())
        for item in running:
            new.pop(item, None)
        fresh = len(new)
        waiting = self._users.pop(user, None)
        if waiting is not None:
            self._pairs -= len(waiting.items)
            fresh -= len(new.keys() & waiting.items.keys())
            new.update(waiting.items)
        if new:
            self._users[user] = _Waiting(new, now_ns)
            self._pairs += len(new)
        return len(items) - fresh

    def shrink(self) -> int:
        """Drops what is over the limits; returns how many pairs."""
        before = self._pairs
        if self._users:
            self._keep(next(reversed(self._users)), self._limits.batch_pairs)
        while self._pairs > self._limits.queue_limit:
            oldest = next(iter(self._users))
            too_many = self._pairs - self._limits.queue_limit
            self._keep(oldest, max(0, len(self._users[oldest].items) - too_many))
        return before - self._pairs

    def expire(self, now_ns: int) -> int:
        """Drops the pairs of users who asked too long ago; returns how many."""
        before = self._pairs
        while self._users:
            oldest = next(iter(self._users))
            if now_ns - self._users[oldest].asked_ns <= self._limits.ttl_ms * _MS:
                break
            self._keep(oldest, 0)
        return before - self._pairs

    def take(self) -> list[UserItems]:
        """Removes and returns the next batch: whole users, newest first."""
        batch: list[UserItems] = []
        room = self._limits.batch_pairs
        while self._users and len(batch) < self._limits.batch_users:
            user = next(reversed(self._users))
            items = self._users[user].items
            if len(items) > room:
                break
            batch.append(UserItems(user, np.fromiter(items, dtype=np.uint64, count=len(items))))
            room -= len(items)
            self._keep(user, 0)
        return batch

    def _keep(self, user: UserId, count: int) -> None:
        """Keeps the first `count` items of a waiting user, none: removes him."""
        waiting = self._users[user]
        if count >= len(waiting.items):
            return
        self._pairs -= len(waiting.items) - count
        if count:
            waiting.items = dict.fromkeys(islice(waiting.items, count))
        else:
            del self._users[user]
