"""Pairs kept in plain dictionaries under a budget, no server code: the baselines of speculation.

Invariant: never more computed than `budget` pairs per pair asked so far, of which at most `burst`
are saved up; a pair counts from its
computation for `ttl_ms`, a read does not renew it; at most `capacity` pairs are kept, who was
written or read longest ago goes first. Nothing takes time: what is computed is there for the very
next request.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from predawn.server.replay.pair_asks import Asks
from predawn.server.request import F32

I32 = NDArray[np.int32]

HOUR_MS = 3_600_000
_PROGRESS_EVERY = 5_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What all are held to. budget: pairs computed per pair asked; capacity: pairs kept; burst:
    pairs that may be saved up."""

    budget: float
    ttl_ms: int
    capacity: int
    burst: float


def terms_of(asks: Asks, budget: float, ttl_ms: int, capacity: int) -> Terms:
    """Terms under which what an hour's asks pay for on average may be saved up."""
    hours = max(1.0, int(asks.t_ms[-1] - asks.t_ms[0]) / HOUR_MS)
    return Terms(budget, ttl_ms, capacity, budget * len(asks.item) / hours)


class Rule(Protocol):
    """Which pairs are computed."""

    def after(self, request: int, missed: Sequence[int]) -> Iterable[int]:
        """Items to compute for the user of `request`, which has just missed `missed`, best
        first."""
        ...

    def keeps(self, user: int, item: int) -> bool:
        """Whether a pair that has become too old is to be computed anew."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """What came of a rule. computed_at: int32 [rows], the request whose user's state the embedding
    of each asked pair was computed from, -1: it was not there; computed: pairs, of the counted
    part; unasked: those of them that nobody asked for in time."""

    computed_at: I32
    computed: int
    unasked: int

    def figures(self, asks: Asks) -> dict[str, Any]:
        """Coverage, budget used and waste of the counted part."""
        hits = self.computed_at[asks.counted] >= 0
        return {
            "coverage_exact": float(hits.mean()),
            "fm_pairs_computed": self.computed,
            "budget_used": self.computed / asks.asked,
            "waste": self.unasked / max(1, self.computed),
        }


@dataclass(slots=True)
class _Kept:
    t_ms: int
    request: int
    counted: bool
    used: bool = False


class _Store:
    """Pairs by number, and what they cost."""

    def __init__(self, asks: Asks, terms: Terms) -> None:
        self._asks = asks
        self._terms = terms
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._tokens = 0.0
        self.too_old: list[tuple[int, int]] = []
        self.computed = self.unasked = 0

    def asked(self, pairs: int) -> None:
        earned = self._terms.budget * pairs
        self._tokens = min(self._tokens + earned, max(earned, self._terms.burst))

    def find(self, pair: int, now_ms: int) -> _Kept | None:
        found = self._kept.get(pair)
        if found is None or now_ms - found.t_ms > self._terms.ttl_ms:
            return None
        return found

    def read(self, pair: int, now_ms: int) -> int:
        """The request that the pair was computed at, -1: absent."""
        found = self.find(pair, now_ms)
        if found is None:
            return -1
        found.used = True
        self._kept.move_to_end(pair)
        return found.request

    def compute(self, pair: int, now_ms: int, request: int, counted: bool) -> bool:
        """Computes and writes a pair; False when the budget is spent."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self._forget(self._kept.pop(pair, None))
        self._kept[pair] = _Kept(now_ms, request, counted)
        self.computed += counted
        heapq.heappush(self.too_old, (now_ms + self._terms.ttl_ms + 1, pair))
        if len(self._kept) > self._terms.capacity:
            self._forget(self._kept.popitem(last=False)[1])
        return True

    def expired(self, now_ms: int) -> Iterable[tuple[int, int]]:
        """Pairs that have become too old by now, with the instant, in order of time."""
        while self.too_old and self.too_old[0][0] <= now_ms:
            due_ms, pair = heapq.heappop(self.too_old)
            kept = self._kept.get(pair)
            if kept is not None and kept.t_ms + self._terms.ttl_ms < due_ms:
                self._forget(self._kept.pop(pair))
                yield due_ms, pair

    def close(self) -> None:
        """What is left has not been asked for."""
        for kept in self._kept.values():
            self._forget(kept)

    def _forget(self, kept: _Kept | None) -> None:
        self.unasked += kept is not None and kept.counted and not kept.used


def run(
    asks: Asks, terms: Terms, rule: Rule, on_progress: Callable[[float], None] = lambda share: None
) -> Plain:
    """Puts the whole trace through `rule`."""
    store, computed_at = _Store(asks, terms), np.full(len(asks.item), -1, dtype=np.int32)
    newest: dict[int, int] = {}
    offsets, items = asks.offsets.tolist(), asks.item.tolist()
    for request, (now_ms, user) in enumerate(
        zip(asks.t_ms.tolist(), asks.user.tolist(), strict=True)
    ):
        counted, begin, end = request >= asks.first, offsets[request], offsets[request + 1]
        for due_ms, pair in store.expired(now_ms):
            who, item = divmod(pair, asks.items)
            if rule.keeps(who, item):
                store.compute(pair, due_ms, newest[who], counted)
        newest[user] = request
        own = user * asks.items
        found = [store.read(own + item, now_ms) for item in items[begin:end]]
        computed_at[begin:end] = found
        store.asked(end - begin)
        missed = [items[begin + at] for at, known in enumerate(found) if known < 0]
        for item in rule.after(request, missed):
            pair = own + item
            if store.find(pair, now_ms) is None and not store.compute(
                pair, now_ms, request, counted
            ):
                break
        if request % _PROGRESS_EVERY == 0:
            on_progress(request / len(asks.t_ms))
    store.close()
    return Plain(computed_at, store.computed, store.unasked)


class MissesOnly:
    """No speculation: what a request has missed is computed behind it."""

    def after(self, request: int, missed: Sequence[int]) -> Iterable[int]:
        return missed

    def keeps(self, user: int, item: int) -> bool:
        return False


class LastLists:
    """Replay of the last `lists` lists: what was missed, and those pairs are computed anew whenever
    they become too old, as far as the budget goes."""

    def __init__(self, asks: Asks, lists: int) -> None:
        self._asks = asks
        self._lists = lists
        self._shown: dict[int, deque[list[int]]] = {}

    def after(self, request: int, missed: Sequence[int]) -> Iterable[int]:
        asks = self._asks
        begin, end = asks.offsets[request], asks.offsets[request + 1]
        shown = self._shown.setdefault(int(asks.user[request]), deque(maxlen=self._lists))
        shown.append(asks.item[begin:end].tolist())
        return missed

    def keeps(self, user: int, item: int) -> bool:
        return any(item in items for items in self._shown[user])


class TopScored:
    """The paper's rule: of the list just ranked and not there, the pairs with the highest scores;
    with what the budget leaves, those of the user's earlier lists, `lists` in all, newest first.
    scores: float32 [rows] of the trace."""

    def __init__(self, asks: Asks, scores: F32, lists: int = 10) -> None:
        self._asks = asks
        self._scores = scores
        self._lists = lists
        self._shown: dict[int, deque[list[int]]] = {}

    def after(self, request: int, missed: Sequence[int]) -> Iterable[int]:
        asks = self._asks
        rows = slice(asks.offsets[request], asks.offsets[request + 1])
        best_first = np.argsort(-self._scores[rows], kind="stable")
        shown = self._shown.setdefault(int(asks.user[request]), deque(maxlen=self._lists))
        shown.appendleft(asks.item[rows][best_first].tolist())
        return chain.from_iterable(shown)

    def keeps(self, user: int, item: int) -> bool:
        return False
