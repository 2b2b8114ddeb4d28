"""From a trace to what training sees, without looking ahead.

Invariant: whatever describes a user or an item at a row comes from rows strictly earlier in time
(an equal time is not earlier). The histories are those that
`History.gather` would give at that moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.server.errors import ConfigError
from predawn.server.models.item_table import item_statistics
from predawn.server.request import F32, I64, U64, UserBatch, UserId
from predawn.server.traces import Trace, event_types
from predawn.server.traces_data import hash_ids

_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000


class Timeline:
    """Events sorted by (group, time, arrival), so that a group's past is one slice of `order`.

    groups, t_ms: int64 [n]. ConfigError when both together do not fit 62 bits.
    """

    def __init__(self, groups: I64, t_ms: I64) -> None:
        self._origin = int(t_ms.min(initial=0))
        self._span = int(t_ms.max(initial=0)) - self._origin + 2
        if int(groups.max(initial=0)) > (2**62) // self._span:
            raise ConfigError("trace", "has too many users or items for its span of time")
        keys = self._keys(groups, t_ms)
        self.order = np.argsort(keys, kind="stable").astype(np.int64)
        self._sorted = keys[self.order]

    def before(self, groups: I64, t_ms: I64) -> tuple[I64, I64]:
        """Slices first:stop of `order` with each group's events strictly before each time."""
        at_ms = np.clip(t_ms, self._origin, self._origin + self._span - 1)
        first = np.searchsorted(self._sorted, groups * self._span)
        return first, np.searchsorted(self._sorted, self._keys(groups, at_ms))

    def _keys(self, groups: I64, t_ms: I64) -> I64:
        return groups * self._span + (t_ms - self._origin)


def running_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over the first i rows, i = 0 .. n. float64 [n, c] -> [n + 1, c]."""
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])


class UserPast:
    """The users' events of a whole trace; gives their histories as of any time."""

    def __init__(self, trace: Trace, types: Sequence[str], length: int) -> None:
        distinct, self.request_users = trace.user_indices()
        counts = np.diff(trace.offsets)
        users = np.repeat(self.request_users, counts)
        times = np.repeat(trace.t_ms, counts)
        bits = event_types(trace, types)
        self._timeline = Timeline(users, times)
        order = self._timeline.order
        self._items, self._times, self._bits = trace.items[order], times[order], bits[order]
        flags = (self._bits[:, None] >> np.arange(len(types), dtype=np.uint16)) & 1
        self._counts = running_sums(flags.astype(np.float64))
        self._hashes = _hashes_of(distinct)
        self._length = length

    def batch(self, users: I64, before_ms: I64) -> UserBatch:
        """Histories of users (positions as in `request_users`) as of just before a time."""
        first, stop = self._timeline.before(users, before_ms)
        lengths = np.minimum(stop - first, self._length)
        back = np.arange(self._length)
        there = back < lengths[:, None]
        at = np.where(there, stop[:, None] - 1 - back, 0)
        times = np.where(there, self._times[at], 0)
        newest = times[:, :1]
        return UserBatch(
            users=self._hashes[users],
            items=np.where(there, self._items[at], np.uint64(0)),
            types=np.where(there, self._bits[at], np.uint16(0)),
            ages_ms=np.where(there, newest - times, 0),
            lengths=lengths.astype(np.int32),
            counts=(self._counts[stop] - self._counts[first]).astype(np.float32),
            attributes=np.zeros((len(users), 0), np.float32),
            hour=(newest[:, 0] % _DAY_MS / _HOUR_MS).astype(np.float32),
        )


def earlier_item_statistics(items: I64, t_ms: I64, labels: F32, prior: F32) -> F32:
    """`item_statistics` [R, S] of each row's item from the rows before it. labels: [R, tasks]."""
    timeline = Timeline(items, t_ms)
    sums = running_sums(labels[timeline.order].astype(np.float64))
    first, stop = timeline.before(items, t_ms)
    counts = (stop - first).astype(np.float32)
    earlier = (sums[stop] - sums[first]).astype(np.float32)
    return item_statistics(earlier, counts, prior)


@dataclass(frozen=True, slots=True)
class Split:
    """Requests 0 .. cut - 1 train, the others are held out; rows alike."""

    cut: int
    row_cut: int


def split_by_time(trace: Trace, holdout: float) -> Split:
    """The latest share `holdout` of the rows, in whole requests. ValueError outside 0 .. 0.9."""
    if not 0 <= holdout <= 0.9:
        raise ValueError(f"holdout {holdout} is not in 0 .. 0.9")
    wanted = int(trace.rows * (1 - holdout))
    cut = int(np.searchsorted(trace.offsets, wanted))
    return Split(cut, int(trace.offsets[cut]))


def known_labels(trace: Trace, tasks: Sequence[str]) -> F32:
    """float32 [rows, tasks], NaN where the log does not say."""
    return np.stack([trace.labels[task] for task in tasks], axis=1).astype(np.float32)


def _hashes_of(users: Sequence[UserId]) -> U64:
    texts = [user for user in users if isinstance(user, str)]
    return hash_ids(texts if texts else np.array(users, dtype=np.uint64))
