"""Rules in place of a predictor, to compare with: a user's last lists again, or the pairs that the
ranker scored highest (the rule of SOLARIS, arXiv 2604.12110).

Invariant: at most `users` users are remembered, each by his last `lists` lists; who came longest
ago is forgotten. What a rule calls a chance orders pairs of all users; it is no probability.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from predawn.server.request import F32, U8, U64, UserId
from predawn.server.speculation.contract import NOTHING, Origin, Proposal
from predawn.server.speculation.scheduler import found_in


@dataclass(frozen=True, slots=True)
class _List:
    """What a request has shown. items: uint64 [n], best scored first; known as in `asked`."""

    items: U64
    scores: F32
    known: U8
    at_ms: int


class _LastLists:
    """The last lists of the users who came last, newest first."""

    def __init__(self, users: int, lists: int) -> None:
        self._most = users
        self._lists = lists
        self._users: OrderedDict[UserId, deque[_List]] = OrderedDict()
        self.now_ms = 0

    def add(self, user: UserId, shown: _List) -> None:
        """A request of `user`."""
        kept = self._users.pop(user, None)
        if kept is None:
            kept = deque[_List](maxlen=self._lists)
        kept.appendleft(shown)
        self._users[user] = kept
        if len(self._users) > self._most:
            self._users.popitem(last=False)

    def of(self, user: UserId) -> tuple[_List, ...]:
        """Of `user`, newest first."""
        return tuple(self._users.get(user, ()))

    def __len__(self) -> int:
        return len(self._users)


class RecentPairs:
    """What a user was shown last, newest list first, of a list the best scored first. Chance:
    1 / (1 + lists since then), a little less for each place in its list."""

    def __init__(self, users: int, lists: int) -> None:
        self._lists = _LastLists(users, lists)

    def asked(self, user: UserId, items: U64, scores: F32, known: U8, now_ms: int) -> None:
        """See `PredictsPairs`."""
        _add(self._lists, user, items, scores, known, now_ms)

    def propose(
        self, user: UserId, now_ms: int, limit: int, least: float = 0.0, missed: U64 = NOTHING
    ) -> Proposal:
        """See `PredictsPairs`."""
        chances = [
            (1 - np.arange(len(each.items)) / (len(each.items) + 1) / (age + 2)) / (age + 1)
            for age, each in enumerate(self._lists.of(user))
        ]
        found = _proposal(user, self._lists.of(user), chances)
        return _beside(missed, found, limit, least)

    def report(self) -> dict[str, Any]:
        """A rule says no probabilities: what is remembered alone."""
        return {"remembered": {"users": len(self._lists)}}


class ScoredPairs:
    """Of what a user was shown lately, what the ranker scored highest, whenever that was. Chance:
    the logistic function of the score, so that it rises with it."""

    def __init__(self, users: int, lists: int) -> None:
        self._lists = _LastLists(users, lists)

    def asked(self, user: UserId, items: U64, scores: F32, known: U8, now_ms: int) -> None:
        """See `PredictsPairs`."""
        _add(self._lists, user, items, scores, known, now_ms)

    def propose(
        self, user: UserId, now_ms: int, limit: int, least: float = 0.0, missed: U64 = NOTHING
    ) -> Proposal:
        """See `PredictsPairs`."""
        lists = self._lists.of(user)
        chances = [1 / (1 + np.exp(-np.clip(each.scores, -30, 30))) for each in lists]
        return _beside(missed, _proposal(user, lists, chances), limit, least)

    def report(self) -> dict[str, Any]:
        """A rule says no probabilities: what is remembered alone."""
        return {"remembered": {"users": len(self._lists)}}


def _add(lists: _LastLists, user: UserId, items: U64, scores: F32, known: U8, now_ms: int) -> None:
    """A clock that goes back stands still."""
    lists.now_ms = max(lists.now_ms, now_ms)
    order = np.argsort(-scores, kind="stable")
    lists.add(user, _List(items[order], scores[order], known[order], lists.now_ms))


def _beside(missed: U64, found: Proposal, limit: int, least: float) -> Proposal:
    """See `PredictsPairs.propose`."""
    again, places = found_in(found.items, missed)
    chances = np.full(len(missed), -1, dtype=np.float32)
    chances[places] = found.chances[again]
    others = np.flatnonzero(~again & (found.chances >= least))[:limit]
    origins = np.full(len(missed), Origin.MISSED, dtype=np.uint8)
    return Proposal(
        found.user,
        np.concatenate((missed, found.items[others])),
        np.concatenate((chances, found.chances[others])),
        np.concatenate((origins, found.origins[others])),
    )


def _proposal(user: UserId, lists: tuple[_List, ...], chances: list[Any]) -> Proposal:
    """The best first; of an item in several lists, the newest counts."""
    if not lists:
        nothing: U64 = np.zeros(0, dtype=np.uint64)
        return Proposal(user, nothing, np.zeros(0, np.float32), np.zeros(0, np.uint8))
    items = np.concatenate([each.items for each in lists])
    missed = np.zeros(len(items), dtype=np.bool_)
    missed[: len(lists[0].items)] = lists[0].known == 0
    _, newest = np.unique(items, return_index=True)
    chance = np.concatenate(chances)[newest].astype(np.float32)
    best = np.lexsort((newest, -chance))
    origins = np.where(missed[newest[best]], Origin.MISSED, Origin.SHOWN).astype(np.uint8)
    return Proposal(user, items[newest[best]], chance[best], origins)
