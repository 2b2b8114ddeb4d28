"""Which pairs of a model are computed next: user by user, the best value per cost first, within
what the budget has room for.

Invariant: a pair waits once; every candidate offered waits, is taken, or has been reported once by
how it ended. At most `queue_limit` pairs wait, and at most `batch_pairs` of one user; from a full
queue the least worth goes. A slice has at most `batch_users` users and `batch_pairs` pairs and
costs no more tokens than there were. No clock and no loop: instants, price and room are passed in.

A user's items stay together: his first pair pays for encoding his history, further ones are cheap.
His place in the order is the best that a run of his first pairs gives: sum of values / (encoding +
pairs). Among equals, who asked last goes first.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from predawn.server.request import F32, I64, U8, U64, UserId
from predawn.server.speculation.contract import Origin
from predawn.server.speculation.fair_share import FairShare
from predawn.server.speculation.limits import PairLimits

_MS = 1_000_000
_MISSED = int(Origin.MISSED)
_STALE_PARTS = 8  # a proposal is too old after this part of the ttl: the chances were of then
_PASSED_OVER = 16  # users of a slice who may not take now
_HEAP_SLACK = 64
_SLACK = 0.5  # a pair let in stays worth taking until the price has doubled

Ended: TypeAlias = Callable[[str, U8], None]
"""Told how candidates ended ("coalesced", "full", "stale", "below_price") and their origins."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of one user. items: uint64 [n], each once; values: float32 [n], chance times what the
    pair's own embedding is worth over its fill; chances: float32 [n]; origins: uint8 [n]; asked_ns:
    int64 [n], when a missed pair was asked for, or when the others were proposed."""

    items: U64
    values: F32
    chances: F32
    origins: U8
    asked_ns: I64

    def __len__(self) -> int:
        return len(self.items)

    def at(self, index: NDArray[Any]) -> "Candidates":
        """Those at `index`, positions or a mask."""
        return Candidates(
            self.items[index],
            self.values[index],
            self.chances[index],
            self.origins[index],
            self.asked_ns[index],
        )

    def joined(self, others: "Candidates") -> "Candidates":
        """These and `others`, none of which is among these."""
        return Candidates(
            np.concatenate((self.items, others.items)),
            np.concatenate((self.values, others.values)),
            np.concatenate((self.chances, others.chances)),
            np.concatenate((self.origins, others.origins)),
            np.concatenate((self.asked_ns, others.asked_ns)),
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one slice. price: least value of a pair; tokens: that may be spent; costs: float64
    [origins], tokens a pair costs; ahead: most pairs that nobody has missed; surplus: there is more
    money than needed, so that nobody loses by what a user takes over his share."""

    price: float
    tokens: float
    costs: NDArray[np.float64]
    ahead: int
    surplus: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """Pairs of one user in a slice; tokens: what they cost."""

    user: UserId
    pairs: Candidates
    tokens: float


_Order: TypeAlias = tuple[float, int, int]
"""Value per cost, when last asked for, and who was offered first: the highest goes first."""


@dataclass(slots=True)
class _Waiting:
    pairs: Candidates  # the most valuable first
    encode: float
    order: _Order
    oldest_ns: int  # of what was asked for, at most
    least: float  # of the values, at most


class Scheduler:
    """Of one pair model."""

    def __init__(self, limits: PairLimits, window: float, ended: Ended) -> None:
        self._limits = limits
        self._ended = ended
        self._fair = FairShare(limits.user_share, window)
        self._floor = max(1, int(limits.user_share * limits.batch_pairs))
        self._users: dict[UserId, _Waiting] = {}
        self._best: list[tuple[float, int, int, UserId]] = []
        self._worst: list[tuple[float, int, int, UserId]] = []
        self._pairs = 0
        self._offers = 0

    def __len__(self) -> int:
        """Pairs that wait."""
        return self._pairs

    def offer(self, user: UserId, offered: Candidates, encode: float) -> None:
        """Takes in what is known of `user` now. It replaces what was proposed for him before;
        missed pairs stay. encode: what his history costs, in pairs."""
        before = self._users.pop(user, None)
        if before is not None:
            offered = self._merged(offered, before.pairs)
            self._pairs -= len(before.pairs)
        if len(offered):
            newest_first = np.lexsort((-offered.asked_ns, -offered.values))
            if len(newest_first) > self._limits.batch_pairs:
                self._ended("full", offered.origins[newest_first[self._limits.batch_pairs :]])
                newest_first = newest_first[: self._limits.batch_pairs]
            self._put(user, offered.at(newest_first), encode)
        self._shrink()

    def take(self, now_ns: int, terms: Terms) -> list[Planned]:
        """Removes and returns the next slice; [] where nothing is worth its price or there is no
        room. Who is over his share of the budget waits for a surplus, and no user takes more than
        that share of the slice from those who are picked after him."""
        if terms.tokens < 1:
            return []
        picked, aside = self._pick(now_ns, terms)
        planned = self._allot(picked, terms)
        for user in aside:
            self._push(user)
        return planned

    def _pick(self, now_ns: int, terms: Terms) -> tuple[list[UserId], list[UserId]]:
        """The users of the next slice, and those passed over."""
        picked: list[UserId] = []
        aside: list[UserId] = []
        room = self._limits.batch_pairs
        while len(picked) < self._limits.batch_users and len(aside) < _PASSED_OVER:
            user = self._pop_best()
            if user is None:
                break
            pairs = self._worthwhile(user, now_ns, terms)
            if not len(pairs):
                continue
            if not self._may_take(user, pairs, terms):
                aside.append(user)
                continue
            room -= min(len(pairs), self._floor)
            if room < 0:
                aside.append(user)
                break
            picked.append(user)
        return picked, aside

    def _may_take(self, user: UserId, pairs: Candidates, terms: Terms) -> bool:
        in_share = terms.surplus or self._fair.left(user) > 0
        return in_share and bool(terms.costs[pairs.origins].min() <= terms.tokens)

    def _allot(self, picked: list[UserId], terms: Terms) -> list[Planned]:
        """Gives each in turn what he can use, but for what is kept for those after him."""
        planned: list[Planned] = []
        tokens, ahead, room = terms.tokens, terms.ahead, self._limits.batch_pairs
        dearest = float(terms.costs.max())
        kept = sum(min(len(self._users[user].pairs), self._floor) for user in picked)
        for user in picked:
            waiting = self._users.pop(user)
            pairs = waiting.pairs
            self._pairs -= len(pairs)
            kept -= min(len(pairs), self._floor)
            left = tokens if terms.surplus else min(tokens, max(1.0, self._fair.left(user)))
            if len(pairs) <= min(ahead, room - kept, left / dearest):
                taken = pairs
            else:
                chosen = _affordable(pairs, terms.costs, left, ahead, room - kept)
                taken, rest = pairs.at(chosen), pairs.at(~chosen)
                if len(rest):
                    self._put(user, rest, 0.0 if len(taken) else waiting.encode)
            if len(taken):
                spent = float(terms.costs[taken.origins].sum())
                planned.append(Planned(user, taken, spent))
                self._fair.took(user, spent)
                tokens -= spent
                room -= len(taken)
                ahead -= int(np.count_nonzero(taken.origins != _MISSED))
        return planned

    def _worthwhile(self, user: UserId, now_ns: int, terms: Terms) -> Candidates:
        """What is left of a waiting user's pairs; he is gone when nothing is."""
        waiting = self._users[user]
        pairs = waiting.pairs
        ttl_ns = self._limits.ttl_ms * _MS
        is_young = now_ns - waiting.oldest_ns <= ttl_ns // _STALE_PARTS
        if is_young and waiting.least >= _SLACK * terms.price and terms.ahead >= 1:
            return pairs
        missed = pairs.origins == _MISSED
        stale = now_ns - pairs.asked_ns > np.where(missed, ttl_ns, ttl_ns // _STALE_PARTS)
        cheap = ~stale & (pairs.values < _SLACK * terms.price)
        full = ~stale & ~cheap & ~missed & (terms.ahead < 1)
        gone = stale | cheap | full
        if not gone.any():
            return pairs
        for outcome, those in (("stale", stale), ("below_price", cheap), ("full", full)):
            if those.any():
                self._ended(outcome, pairs.origins[those])
        left = pairs.at(~gone)
        self._pairs -= len(pairs) - len(left)
        if len(left):
            waiting.pairs = left
        else:
            del self._users[user]
        return left

    def _merged(self, new: Candidates, old: Candidates) -> Candidates:
        """The new with the missed ones of the old. Who was missed stays missed."""
        again, places = found_in(old.items, new.items)
        missed = old.origins == _MISSED
        if again.any():
            self._ended("coalesced", old.origins[again & ~missed])
            both, at = old.at(again & missed), places[missed[again]]
            self._ended("coalesced", _stay_missed(new, both, at))
        superseded = ~again & ~missed
        if superseded.any():
            self._ended("stale", old.origins[superseded])
        stay = old.at(~again & missed)
        return new.joined(stay) if len(stay) else new

    def _put(self, user: UserId, pairs: Candidates, encode: float) -> None:
        self._offers += 1
        asked_ns = pairs.asked_ns
        order = _worth(pairs.values, encode), int(asked_ns.max()), -self._offers
        oldest_ns, least = int(asked_ns.min()), float(pairs.values[-1])
        self._users[user] = _Waiting(pairs, encode, order, oldest_ns, least)
        self._pairs += len(pairs)
        self._push(user)

    def _push(self, user: UserId) -> None:
        order = self._users[user].order
        heapq.heappush(self._best, (*_reversed(order), user))
        heapq.heappush(self._worst, (*order, user))
        if len(self._best) > 2 * len(self._users) + _HEAP_SLACK:
            self._best = [(*_reversed(each.order), name) for name, each in self._users.items()]
            heapq.heapify(self._best)
        if len(self._worst) > 2 * len(self._users) + _HEAP_SLACK:
            self._worst = [(*each.order, name) for name, each in self._users.items()]
            heapq.heapify(self._worst)

    def _pop_best(self) -> UserId | None:
        while self._best:
            *order, user = heapq.heappop(self._best)
            waiting = self._users.get(user)
            if waiting is not None and _reversed(waiting.order) == tuple(order):
                return user
        return None

    def _shrink(self) -> None:
        """Drops the least worth: of whoever comes last, his least valuable pairs."""
        while self._pairs > self._limits.queue_limit:
            *order, user = heapq.heappop(self._worst)
            waiting = self._users.get(user)
            if waiting is None or waiting.order != tuple(order):
                continue
            kept = max(0, len(waiting.pairs) - (self._pairs - self._limits.queue_limit))
            self._ended("full", waiting.pairs.origins[kept:])
            self._pairs -= len(waiting.pairs) - kept
            if kept:
                waiting.pairs = waiting.pairs.at(np.arange(kept))
                heapq.heappush(self._worst, (*waiting.order, user))
            else:
                del self._users[user]


def _worth(values: F32, encode: float) -> float:
    """The best that a run of the first `values`, the highest first, gives."""
    if not encode:
        return float(values[0])
    sums = np.cumsum(values, dtype=np.float64)
    return float((sums / (encode + np.arange(1, len(sums) + 1))).max())


def _reversed(order: _Order) -> _Order:
    return -order[0], -order[1], -order[2]


def _affordable(
    pairs: Candidates, costs: NDArray[np.float64], tokens: float, ahead: int, most: int
) -> NDArray[np.bool_]:
    """Which pairs, the most valuable first, `tokens`, `ahead` and `most` are enough for."""
    is_ahead = pairs.origins != _MISSED
    chosen: NDArray[np.bool_] = ~is_ahead | (np.cumsum(is_ahead) <= ahead)
    spent = np.cumsum(np.where(chosen, costs[pairs.origins], 0.0))
    chosen &= spent <= tokens
    chosen &= np.cumsum(chosen) <= most
    return chosen


def found_in(items: U64, known: U64) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which of `items` [n] are among `known`, each once; and of those, in order, where. For few
    items at a time faster than `numpy.isin`."""
    if not len(known):
        return np.zeros(len(items), dtype=np.bool_), np.zeros(0, dtype=np.intp)
    order = np.argsort(known)
    places = order[np.searchsorted(known, items, sorter=order).clip(max=len(known) - 1)]
    found: NDArray[np.bool_] = known[places] == items
    return found, places[found]


def _stay_missed(new: Candidates, missed: Candidates, places: NDArray[np.intp]) -> U8:
    """Marks those of `new` at `places`, which are `missed`, so, in place, as of when they were
    asked for. Returns the origins that they had: of each two that are one now, the later ends."""
    had: U8 = new.origins[places]
    turned = had != _MISSED
    new.origins[places[turned]] = _MISSED
    new.asked_ns[places[turned]] = missed.asked_ns[turned]
    return had
