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
    batch_pairs: int = 512


class MissedQueue:
    """See the module."""

    def __init__(self, limits: PairLimits) -> None:
        self._limits = limits
        # Who asked last is last; of each user, when each item was asked for, last shown first.
        self._users: OrderedDict[UserId, dict[int, int]] = OrderedDict()
        self._pairs = 0

    def __len__(self) -> int:
        """Pairs that wait."""
        return self._pairs

    def add(self, user: UserId, items: U64, running: Collection[int], now_ns: int) -> int:
        """Takes in what a request of `user` has missed: `items` uint64 [n], each once, but for
        those that are `running`; returns how many were waiting or running already."""
        new = dict.fromkeys(items.tolist(), now_ns)
        for item in running:
            new.pop(item, None)
        fresh = len(new)
        waiting = self._users.pop(user, None)
        if waiting is not None:
            self._pairs -= len(waiting)
            fresh -= len(new.keys() & waiting.keys())
            new = new | waiting | new  # in this order, asked for now where in both
        if new:
            self._users[user] = new
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
            self._keep(oldest, max(0, len(self._users[oldest]) - too_many))
        return before - self._pairs

    def take(self, now_ns: int) -> tuple[list[UserItems], int]:
        """Removes and returns the next batch: whole users, newest first; and how many pairs were
        dropped since they have waited for too long."""
        stale = self._expire(now_ns)
        batch: list[UserItems] = []
        room = self._limits.batch_pairs
        while self._users and len(batch) < self._limits.batch_users:
            user = next(reversed(self._users))
            stale += self._trim(user, now_ns)
            items = self._users.get(user, {})
            if len(items) > room:
                break
            if items:
                hashes = np.fromiter(items, dtype=np.uint64, count=len(items))
                batch.append(UserItems(user, hashes))
                room -= len(items)
                self._keep(user, 0)
        return batch, stale

    def _expire(self, now_ns: int) -> int:
        """Drops users who asked last too long ago, those who asked longest ago first."""
        dropped = 0
        while self._users:
            trimmed = self._trim(next(iter(self._users)), now_ns)
            if not trimmed:
                break
            dropped += trimmed
        return dropped

    def _trim(self, user: UserId, now_ns: int) -> int:
        """Drops a user's pairs that were asked for too long ago; returns how many."""
        items = self._users[user]
        oldest_ns = now_ns - self._limits.ttl_ms * _MS
        kept = len(items)
        for asked_ns in reversed(items.values()):
            if asked_ns >= oldest_ns:
                break
            kept -= 1
        dropped = len(items) - kept
        self._keep(user, kept)
        return dropped

    def _keep(self, user: UserId, count: int) -> None:
        """Keeps the first `count` items of a waiting user, none: removes him."""
        items = self._users[user]
        self._pairs -= max(0, len(items) - count)
        if not count:
            del self._users[user]
        elif count < len(items):
            self._users[user] = dict(islice(items.items(), count))
