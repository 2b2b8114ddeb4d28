"""The most that any way to choose pairs could cover, under the same budget and ttl.

A computation of a pair covers the asks for it within the ttl after. Each pair's best cover by a
number of computations has falling gains (asks and windows on a line: a totally unimodular
programme), so the best of all pairs together takes the greatest gains first: exact, by a price per
computation. Coverage is bounded from above: of the capacity only what would be needed is told.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np

from predawn.server.replay.pair_asks import Asks, last_shown, position
from predawn.server.replay.pair_plain import Terms
from predawn.server.request import I64

_HALF_LIFE_MS = 3 * 3_600_000
_LISTED_EVERY_MS = 60_000
_LATELY = 10  # own lists


@dataclass(frozen=True, slots=True)
class Windows:
    """The counted asks pair by pair in order of time. start_ms: int64 [asks], the latest instant
    at which an embedding for this ask can be computed, -1: none in time; following: int64 [asks],
    the first ask that such a computation does not reach; row: int64 [asks], of the trace."""

    start_ms: I64
    following: I64
    row: I64


def clairvoyant(asks: Asks, ttl_ms: int) -> Windows:
    """Knows every request to come, and computes in the instant before it."""
    return _windows(asks, asks.row_t_ms, ttl_ms)


def same_candidates(asks: Asks, ttl_ms: int, lists: int, popular: int) -> Windows:
    """Knows which pairs will be asked for, but computes behind a request of the user alone and
    only what the sources can name then: what he was shown on his last `lists` lists, what he
    missed, and the `popular` items that were drawn most often of late."""
    return _windows(asks, np.maximum(_shown_ms(asks, lists), _popular_ms(asks, popular)), ttl_ms)


def best(windows: Windows, asks: Asks, terms: Terms) -> dict[str, Any]:
    """The largest coverage for what the counted asks pay, those of the ttl before it (from which
    the store may be full) and what may be saved up; and the pairs held at once for it."""
    since_ms = asks.t_ms[asks.first] - terms.ttl_ms
    paid = terms.budget * np.count_nonzero(asks.row_t_ms >= since_ms)
    allowed, price = int(paid + terms.burst), 0
    covered, chosen = _cover(windows, 0.5)
    while len(chosen) > allowed:  # then only those that gain more, and a part of the others
        price += 1
        covered, chosen = _cover(windows, price + 0.5)
    spent = min(allowed, len(chosen)) if not price else allowed
    covered += price * (spent - len(chosen))
    return {
        "coverage_exact": covered / max(1, asks.asked),
        "fm_pairs_computed": spent,
        "budget_used": spent / max(1, asks.asked),
        "most_held": _most_held(windows, asks, chosen),
    }


def _windows(asks: Asks, latest_ms: I64, ttl_ms: int) -> Windows:
    """latest_ms: int64 [rows], when each row's pair can be computed at the latest, -1: never."""
    counted = np.arange(asks.offsets[asks.first], len(asks.item), dtype=np.int64)
    row = counted[np.argsort(asks.pair[counted], kind="stable")]
    pair, t_ms, start_ms = asks.pair[row], asks.row_t_ms[row], latest_ms[row].copy()
    start_ms[(start_ms >= 0) & (t_ms - start_ms > ttl_ms)] = -1
    # One sorted axis for all pairs: the pair's number in order, then the time.
    span = int(asks.t_ms[-1] - asks.t_ms[0]) + ttl_ms + 2
    rank = np.cumsum(np.diff(pair, prepend=-1) != 0) * span
    axis = rank + (t_ms - asks.t_ms[0])
    reach = rank + (start_ms - asks.t_ms[0]) + ttl_ms
    following = np.searchsorted(axis, np.minimum(reach, rank + span - 1), side="right")
    return Windows(start_ms, following.astype(np.int64), row)


def _cover(windows: Windows, price: float) -> tuple[int, list[int]]:
    """Asks covered by the computations that are worth `price` asks each, and the ask that each of
    those is made for."""
    asks = len(windows.row)
    following, possible = windows.following.tolist(), (windows.start_ms >= 0).tolist()
    worth, taken = [0.0] * (asks + 1), [False] * asks
    for at in range(asks - 1, -1, -1):
        worth[at] = worth[at + 1]
        if possible[at]:
            reaching = following[at]
            with_it = reaching - at - price + worth[reaching]
            if with_it > worth[at]:
                worth[at], taken[at] = with_it, True
    covered, at = 0, 0
    chosen: list[int] = []
    while at < asks:
        if taken[at]:
            chosen.append(at)
            covered += following[at] - at
            at = following[at]
        else:
            at += 1
    return covered, chosen


def _most_held(windows: Windows, asks: Asks, chosen: list[int]) -> int:
    """Pairs held at once when each is dropped with its last use."""
    if not chosen:
        return 0
    begin = np.sort(windows.start_ms[chosen])
    end = np.sort(asks.row_t_ms[windows.row[windows.following[chosen] - 1]])
    held = np.arange(1, len(begin) + 1) - np.searchsorted(end, begin, side="left")
    return int(held.max())


def _shown_ms(asks: Asks, lists: int) -> I64:
    """The user's latest request before each row at which its item was on one of his last `lists`
    lists, -1: none. int64 [rows]."""
    back = last_shown(asks)
    order = np.argsort(asks.user, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    mine = place[asks.request]
    found = np.full(len(back), -1, dtype=np.int64)
    again = back > 0
    # Shown k requests ago, it is on the last lists up to k - lists + 1 requests ago.
    then = mine[again] - np.maximum(1, back[again] - lists + 1)
    found[again] = asks.t_ms[order[then]]
    return found


def _popular_ms(asks: Asks, popular: int) -> I64:
    """The user's latest request before each row at which its item was among the `popular` ones,
    -1: none. int64 [rows]."""
    enter, leave = _listed(asks, popular)
    number, own = position(asks), dict[int, list[int]]()
    found = np.full(len(asks.item), -1, dtype=np.int64)
    items, offsets = asks.item.tolist(), asks.offsets.tolist()
    for request, (now_ms, user) in enumerate(
        zip(asks.t_ms.tolist(), asks.user.tolist(), strict=True)
    ):
        past = own.setdefault(user, [])
        if number[request]:
            for row in range(offsets[request], offsets[request + 1]):
                found[row] = _latest_listed(past, enter[items[row]], leave[items[row]])
        past.append(now_ms)
    return found


def _latest_listed(past: list[int], enter: list[int], leave: list[int]) -> int:
    """The last of the instants `past` at which an item was listed, -1: none."""
    at = bisect_right(enter, past[-1]) - 1
    while at >= 0:
        before = bisect_right(past, leave[at]) - 1
        if before >= 0 and past[before] >= enter[at]:
            return past[before]
        at -= 1
    return -1


def _listed(asks: Asks, popular: int) -> tuple[list[list[int]], list[list[int]]]:
    """By item, the spans of time in which it is among the `popular` ones: those drawn most often
    for users who had not been shown them lately, older draws counting less, listed anew every
    minute."""
    back = last_shown(asks)
    fresh = (back < 0) | (back > _LATELY)
    enter: list[list[int]] = [[] for _ in range(asks.items)]
    leave: list[list[int]] = [[] for _ in range(asks.items)]
    weight, listed = np.zeros(asks.items), np.zeros(0, dtype=np.int64)
    ticks = np.arange(asks.t_ms[0], asks.t_ms[-1] + _LISTED_EVERY_MS, _LISTED_EVERY_MS)
    ends = asks.offsets[np.searchsorted(asks.t_ms, ticks, side="right")]
    begin, faded = 0, 0.5 ** (_LISTED_EVERY_MS / _HALF_LIFE_MS)
    for now_ms, end in zip(ticks.tolist(), ends.tolist(), strict=True):
        drawn = asks.item[begin:end][fresh[begin:end]]
        weight *= faded
        np.add.at(weight, drawn, 1.0)
        begin = end
        now = np.argpartition(-weight, min(popular, asks.items - 1))[:popular]
        now = np.sort(now[weight[now] > 0])
        for item in np.setdiff1d(listed, now, assume_unique=True).tolist():
            leave[item].append(now_ms - 1)
        for item in np.setdiff1d(now, listed, assume_unique=True).tolist():
            enter[item].append(now_ms)
        listed = now
    for item in listed.tolist():
        leave[item].append(int(asks.t_ms[-1]))
    return enter, leave
