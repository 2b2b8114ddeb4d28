"""Users of one pair model who have just asked, with the pairs that they missed: what the scheduler
is still to hear of.

Invariant: a user waits once and so does a pair; at most `queue_limit` pairs and users wait, and at
most `batch_pairs` pairs of one user. Who asked last is next, and who asked longest ago goes first
when there are too many; of one user, the items that he was shown last. No clock and no loop.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

import numpy as np

from predawn.server.request import I64, U64, UserId
from predawn.server.speculation.limits import PairLimits

_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """missed: uint64 [n], each once, last shown first; asked_ns: int64 [n]."""

    user: UserId
    missed: U64
    asked_ns: I64


class Arrivals:
    """See the module."""

    def __init__(self, limits: PairLimits) -> None:
        self._limits = limits
        # Who asked last is last; of each user, when each item was asked for, last shown first.
        self._users: OrderedDict[UserId, dict[int, int]] = OrderedDict()
        self._pairs = 0

    def __len__(self) -> int:
        """Users that wait."""
        return len(self._users)

    @property
    def pairs(self) -> int:
        """Missed pairs that wait."""
        return self._pairs

    def add(self, user: UserId, missed: U64, running: Collection[int], now_ns: int) -> int:
        """A request of `user` has missed `missed` uint64 [n], each once, or (n = 0) nothing; those
        that are `running` are being computed. Returns how many were waiting or running already."""
        new = dict.fromkeys(missed.tolist(), now_ns)
        for item in running:
            new.pop(item, None)
        fresh = len(new)
        waiting = self._users.pop(user, None)
        if waiting:
            self._pairs -= len(waiting)
            fresh -= len(new.keys() & waiting.keys())
            new = new | waiting | new  # in this order, asked for now where in both
        self._users[user] = new
        self._pairs += len(new)
        return len(missed) - fresh

    def shrink(self) -> int:
        """Drops what is over the limits; returns how many pairs."""
        before = self._pairs
        if self._users:
            self._keep(next(reversed(self._users)), self._limits.batch_pairs)
        limit = self._limits.queue_limit
        while len(self._users) > limit:
            self._pairs -= len(self._users.popitem(last=False)[1])
        while self._pairs > limit:
            oldest, items = next(iter(self._users.items()))
            kept = len(items) - (self._pairs - limit)
            if kept > 0:
                self._keep(oldest, kept)
            else:
                self._pairs -= len(self._users.pop(oldest))
        return before - self._pairs

    def next(self, now_ns: int) -> tuple[Arrival, int]:
        """Removes and returns who asked last, and how many of his pairs were dropped since they
        have waited for too long."""
        user, items = self._users.popitem()
        self._pairs -= len(items)
        oldest_ns = now_ns - self._limits.ttl_ms * _MS
        missed = np.fromiter(items, dtype=np.uint64, count=len(items))
        asked_ns = np.fromiter(items.values(), dtype=np.int64, count=len(items))
        young = asked_ns >= oldest_ns
        if young.all():
            return Arrival(user, missed, asked_ns), 0
        return Arrival(user, missed[young], asked_ns[young]), int(len(items) - young.sum())

    def _keep(self, user: UserId, count: int) -> None:
        """Keeps the first `count` items of a waiting user."""
        items = self._users[user]
        if count < len(items):
            self._pairs -= len(items) - count
            self._users[user] = dict(islice(items.items(), count))
