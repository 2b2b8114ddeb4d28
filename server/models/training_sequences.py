"""Whole histories as the foundation model is trained on them: many candidates, one encoding.

A user's events are cut into windows of N tokens that overlap by half. A row of the log is a
candidate in one of them: it sees the window's events that are strictly earlier (an equal time is
not), at least N / 2 where the user has that many, as serving would show it (`foundation_tokens`).
So every window is encoded once for all of its candidates, and every row is learned from once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from predawn.server.models.foundation import TokenBatch
from predawn.server.models.foundation_shape import NEWEST, FoundationShape
from predawn.server.models.foundation_tokens import (
    CANDIDATE,
    Tokens,
    candidate_features,
    history_tokens,
)
from predawn.server.models.item_table import embedding_rows
from predawn.server.models.training_data import Timeline, running_sums
from predawn.server.request import F32, I64, U64, UserBatch
from predawn.server.traces import Trace, event_types

_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000


@dataclass(frozen=True, slots=True)
class Window:
    """Events first .. stop - 1 of the sorted ones; asked: int64 [C], which of them (or of those
    behind) are candidates."""

    first: int
    stop: int
    asked: I64


class SequenceBatch(NamedTuple):
    """Padded: history [B, T], asked [B, C], seen: int64 [B, C]; labels: float32 [B, C, tasks], NaN
    where unknown or padding; rows: int64 [B, C] of the trace, -1 for padding."""

    history: TokenBatch
    asked: TokenBatch
    seen: Tensor
    labels: Tensor
    rows: I64


class Sequences:
    """The events of a trace's first `stop_row` rows, by user and time, and windows of them."""

    def __init__(
        self,
        trace: Trace,
        labels: F32,
        stop_row: int,
        shape: FoundationShape,
        types: Sequence[str],
        statistics: F32 | None = None,
    ) -> None:
        """labels: float32 [rows, tasks], NaN where unknown; statistics: float32 [stop_row, S] of
        each row's item as they were before it, None for those that the net keeps."""
        self._shape = shape
        _, request_users = trace.user_indices()
        counts = np.diff(trace.offsets)
        users = np.repeat(request_users, counts)[:stop_row]
        times = np.repeat(trace.t_ms, counts)[:stop_row]
        timeline = Timeline(users, times)
        order = self._order = timeline.order
        bits = event_types(trace, types)[:stop_row][order]
        self._times, self._labels = times[order], labels[:stop_row][order]
        self._events: U64 = np.stack(
            [trace.items[:stop_row][order], bits.astype(np.uint64), self._times.astype(np.uint64)],
            axis=1,
        )
        self._statistics = None if statistics is None else statistics[order]
        flags = (bits[:, None] >> np.arange(len(types), dtype=np.uint16)) & 1
        self._sums = running_sums(flags.astype(np.float64))
        self._first, self._before = timeline.before(users[order], self._times)

    def windows(self, asked: NDArray[np.bool_]) -> list[Window]:
        """All windows that have candidates; asked: bool [stop_row], rows that are candidates."""
        length = self._shape.length
        half = length // 2
        number = np.maximum((self._before - self._first) // half - 1, 0)
        where = np.flatnonzero(asked[self._order])
        keys = np.stack([self._first[where], number[where]], axis=1)
        cuts = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
        windows: list[Window] = []
        for part in np.split(where, cuts) if len(where) else []:
            first = int(self._first[part[0]] + number[part[0]] * half)
            windows.append(Window(first, int(self._before[part].max()), part))
        return windows

    def batch(self, windows: Sequence[Window]) -> SequenceBatch:
        """The windows side by side."""
        candidates = max(len(window.asked) for window in windows)
        size = (len(windows), candidates)
        seen = np.zeros(size, np.int64)
        rows = np.full(size, -1, np.int64)
        labels = np.full((*size, self._labels.shape[1]), np.nan, np.float32)
        for number, window in enumerate(windows):
            count = len(window.asked)
            seen[number, :count] = self._before[window.asked] - window.first
            rows[number, :count] = self._order[window.asked]
            labels[number, :count] = self._labels[window.asked]
        events = [np.arange(window.first, window.stop) for window in windows]
        return SequenceBatch(
            self._padded([self._tokens(window) for window in windows], events),
            self._padded(
                [self._candidates(window) for window in windows],
                [window.asked for window in windows],
            ),
            torch.from_numpy(seen),
            torch.from_numpy(labels),
            rows,
        )

    def _tokens(self, window: Window) -> Tokens:
        events = self._events[window.first : window.stop].copy()
        if len(events):
            events[:, 2] -= events[0, 2]
        return history_tokens(self._shape, events, 0, len(events))

    def _candidates(self, window: Window) -> Tokens:
        before, count = self._before[window.asked], len(window.asked)
        seen = before - window.first
        newest = self._times[np.maximum(before - 1, 0)]
        since_ms = np.where(seen > 0, newest - self._times[window.first], 0)
        known = before > self._first[window.asked]
        features = candidate_features(
            self._shape, self._state(window, newest, known), seen, since_ms
        )
        items = embedding_rows(self._events[window.asked, 0], self._shape.item_rows)
        return Tokens(items, np.full(count, CANDIDATE, np.int64), features)

    def _state(self, window: Window, newest_ms: I64, known: NDArray[np.bool_]) -> UserBatch:
        """What a `UserBatch` says of a user besides its events, as of each candidate."""
        count, first = len(window.asked), self._first[window.asked]
        lifetime = self._sums[self._before[window.asked]] - self._sums[first]
        hour = np.where(known, newest_ms % _DAY_MS / _HOUR_MS, 0)
        nothing = np.zeros((count, 0), np.int64)
        lengths = np.minimum(self._before[window.asked] - first, NEWEST[-1])
        back = np.arange(NEWEST[-1])
        at = np.where(back < lengths[:, None], self._before[window.asked][:, None] - 1 - back, 0)
        return UserBatch(
            users=np.zeros(count, np.uint64),
            items=nothing.astype(np.uint64),
            types=self._events[at, 1].astype(np.uint16),
            ages_ms=nothing,
            lengths=lengths.astype(np.int32),
            counts=lifetime.astype(np.float32),
            attributes=np.zeros((count, 0), np.float32),
            hour=hour.astype(np.float32),
        )

    def _padded(self, parts: Sequence[Tokens], where: Sequence[I64]) -> TokenBatch:
        """where: int64 [n] each, the events that the tokens stand for."""
        size = (len(parts), max(len(part.items) for part in parts))
        items, gaps = np.zeros(size, np.int64), np.zeros(size, np.int64)
        features = np.zeros((*size, self._shape.features), np.float32)
        for number, part in enumerate(parts):
            count = len(part.items)
            items[number, :count], gaps[number, :count] = part.items, part.gaps
            features[number, :count] = part.features
        return TokenBatch(
            torch.from_numpy(items),
            torch.from_numpy(gaps),
            torch.from_numpy(features),
            self._known(size, where),
        )

    def _known(self, size: tuple[int, int], where: Sequence[I64]) -> Tensor | None:
        if self._statistics is None:
            return None
        known = np.zeros((*size, self._statistics.shape[1]), np.float32)
        for number, events in enumerate(where):
            known[number, : len(events)] = self._statistics[events]
        return torch.from_numpy(known)
