"""What users are shown: candidate lists that repeat, from a live pool that turns over
(reference/workload.md section 3).

Invariant: a list holds no item twice. The k-th lists of all users are drawn together, since a list
depends on the same user's earlier ones only.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.bench.workload_times import DAY_S, HOUR_S, Arrivals
from predawn.server.request import I64

I32 = NDArray[np.int32]
F64 = NDArray[np.float64]

_SIZE_MU, _SIZE_SIGMA, _SIZE_MIN, _SIZE_MAX = 2.10, 0.64, 4, 100
# Chance that a slot copies the previous list, by the gap to it in seconds.
_COPY_UP_TO_S = np.array([60.0, 300.0, 600.0, HOUR_S, 6 * HOUR_S])
_COPY = np.array([0.28, 0.30, 0.36, 0.21, 0.02, 0.003])
_MIDDLE, _FAR = 0.16, 0.10  # chances of lists 2-3 and 4-10 back
_OLDER_REACH_S = 2 * HOUR_S
_COPY_TRIES, _POPULAR_TRIES = 3, 20


@dataclass(frozen=True, slots=True)
class PoolShape:
    """Live items at any time, exponent of their popularity, mean life of an item."""

    live: int
    zipf: float
    life_s: float


FEED = PoolShape(1500, 0.7, 0.75 * DAY_S)
ADS = PoolShape(50_000, 0.9, 7 * DAY_S)


class Pool:
    """Live items over time: each slot keeps its popularity and gets a new item now and then."""

    def __init__(
        self, shape: PoolShape, start_s: float, end_s: float, rng: np.random.Generator
    ) -> None:
        weights = np.arange(1, shape.live + 1, dtype=np.float64) ** -shape.zipf
        self._cumulative = np.cumsum(weights) / weights.sum()
        self._rng = rng
        span = end_s - start_s
        lives = rng.exponential(shape.life_s, (shape.live, 4))
        while (replaced := np.cumsum(lives, axis=1))[:, -1].min() <= span:
            lives = np.concatenate([lives, rng.exponential(shape.life_s, lives.shape)], axis=1)
        self._generations = lives.shape[1]
        self._stride_s = float(replaced.max()) + 1.0
        # One sorted array for all slots: slot s occupies s * stride .. (s + 1) * stride.
        self._replaced = (replaced + np.arange(shape.live)[:, None] * self._stride_s).ravel()
        self._start_s = start_s

    @property
    def items(self) -> int:
        """Upper bound of the item numbers that `draw` gives."""
        return len(self._replaced)

    def draw(self, t_s: F64, popular: bool = True) -> I32:
        """One live item for each time, by popularity or uniformly. int32 [n]."""
        chance = self._rng.random(len(t_s))
        if popular:
            slots = np.searchsorted(self._cumulative, chance)
        else:
            slots = (chance * len(self._cumulative)).astype(np.int64)
        at = slots * self._stride_s + (t_s - self._start_s)
        return np.searchsorted(self._replaced, at, side="right").astype(np.int32)


@dataclass(frozen=True, slots=True)
class Lists:
    """Candidates of every request of an `Arrivals`. offsets: int64 [n + 1]; items: int32 [rows]."""

    offsets: I64
    items: I32


def rounds(times: Arrivals) -> Iterator[tuple[int, I64]]:
    """(k, numbers of the k-th requests of all users that have so many)."""
    _, first, counts = np.unique(times.user, return_index=True, return_counts=True)
    busiest = np.argsort(-counts, kind="stable")
    first, counts = first[busiest], counts[busiest]
    for k in range(int(counts.max(initial=0))):
        yield k, first[: np.searchsorted(-counts, -k, side="left")] + k


def list_sizes(requests: int, multiplier: int, rng: np.random.Generator) -> I64:
    """Candidates per request: lognormal, clipped, times the profile's multiplier."""
    drawn = np.exp(_SIZE_MU + _SIZE_SIGMA * rng.standard_normal(requests))
    sizes = np.rint(np.clip(drawn, _SIZE_MIN, _SIZE_MAX) * multiplier)
    return np.asarray(sizes, dtype=np.int64)


def draw_lists(times: Arrivals, multiplier: int, pool: Pool, rng: np.random.Generator) -> Lists:
    """All lists, round after round."""
    sizes = list_sizes(len(times.t_s), multiplier, rng)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    lists = Lists(offsets, np.zeros(int(offsets[-1]), dtype=np.int32))
    for k, requests in rounds(times):
        _draw_round(lists, times, k, requests, pool, rng)
    return lists


def slots_of(offsets: I64, requests: I64) -> tuple[I64, I64]:
    """(request, row) of every candidate of `requests`."""
    counts = offsets[requests + 1] - offsets[requests]
    request = np.repeat(requests, counts)
    before = np.cumsum(counts) - counts
    within = np.arange(len(request)) - np.repeat(before, counts)
    return request, offsets[request] + within


def _draw_round(
    lists: Lists, times: Arrivals, k: int, requests: I64, pool: Pool, rng: np.random.Generator
) -> None:
    """The k-th lists. A slot that repeats its list is drawn again from the same source, then
    fresh, then (a crowded list) from all live items alike."""
    request, rows = slots_of(lists.offsets, requests)
    source = _sources(times, k, request, rng)
    pending = np.arange(len(rows))
    attempt = 0
    while len(pending):
        if attempt >= _COPY_TRIES:
            source[pending] = -1
        popular = attempt < _POPULAR_TRIES
        fresh = pool.draw(times.t_s[request[pending]], popular)
        lists.items[rows[pending]] = _copied(lists, source[pending], fresh, rng)
        pending = _repeated(request, lists.items[rows])
        attempt += 1


def _sources(times: Arrivals, k: int, request: I64, rng: np.random.Generator) -> I64:
    """The request whose list each slot copies from; -1: none, a fresh item."""
    if k == 0:
        return np.full(len(request), -1, dtype=np.int64)
    t_s = times.t_s[request]
    copy = _COPY[np.searchsorted(_COPY_UP_TO_S, t_s - times.t_s[request - 1])]
    chance, which = rng.random((2, len(request)))
    back = np.where(chance < copy + _MIDDLE, 2 + which * 2, 4 + which * 7).astype(np.int64)
    back = np.where(chance < copy, 1, back)
    source = request - np.minimum(back, k)
    young = (back == 1) | (t_s - times.t_s[source] <= _OLDER_REACH_S)
    return np.where((chance < copy + _MIDDLE + _FAR) & (back <= k) & young, source, -1)


def _copied(lists: Lists, source: I64, fresh: I32, rng: np.random.Generator) -> I32:
    """A random item of each source's list, or the fresh one."""
    at = np.flatnonzero(source >= 0)
    start = lists.offsets[source[at]]
    size = lists.offsets[source[at] + 1] - start
    fresh[at] = lists.items[start + (rng.random(len(at)) * size).astype(np.int64)]
    return fresh


def _repeated(request: I64, items: I32) -> I64:
    """Slots whose item is already in an earlier slot of the same list."""
    key = request * (1 << 32) + items
    order = np.argsort(key, kind="stable")
    return np.asarray(order[1:][np.diff(key[order]) == 0], dtype=np.int64)
