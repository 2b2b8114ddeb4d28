"""What the batcher keeps: one entry per key being computed, and a queue of entries per lane.

Invariant: an entry is in exactly one queue, that of its lane, or running. Order within a model is
the order of arrival; every operation is O(1) in the number of entries. No clock and no loop: the
batcher passes the time in.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from predawn.server.request import F32, Lane, UserId

Served: TypeAlias = tuple[F32, int]
"""What a caller gets: float32 [dim] as a later hit would give it, and the snapshot."""

Caller: TypeAlias = "asyncio.Future[Served]"


@dataclass(slots=True, eq=False)
class Entry:
    """One (model, user) that is queued or running, and everybody who waits for it."""

    model: str
    user: UserId
    lane: Lane
    arrived_ns: int
    callers: dict[Caller, tuple[int, Lane]] = field(default_factory=dict[Caller, tuple[int, Lane]])
    background: bool = False  # a refresh asked for it: computed also when nobody waits any more
    running: bool = False
    void: bool = False  # invalidated while running: the result is not landed

    def lane_wanted(self) -> Lane:
        """The highest lane that anybody left asks for."""
        return min((lane for _, lane in self.callers.values()), default=Lane.REFRESH)

    def expire(self, now_ns: int) -> list[Caller]:
        """Takes out the callers who gave up or whose deadline has come; returns the latter."""
        for caller in [caller for caller in self.callers if caller.done()]:
            del self.callers[caller]
        late = [caller for caller, (due_ns, _) in self.callers.items() if due_ns <= now_ns]
        for caller in late:
            del self.callers[caller]
        return late


class LaneQueue:
    """Entries of one lane, by model. A model's batch is ripe when it is full (`batch_limit`) or
    its oldest entry has been held for `window_ns`. `limit` bounds what `full` lets in."""

    def __init__(self, window_ns: int, limit: int, batch_limit: int) -> None:
        self._window_ns = window_ns
        self._limit = limit
        self._batch_limit = batch_limit
        self._models: dict[str, dict[Entry, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        return (entry for entries in self._models.values() for entry in entries)

    @property
    def full(self) -> bool:
        """True: new keys are to be refused."""
        return self._count >= self._limit

    def append(self, entry: Entry) -> None:
        """Puts an entry behind the others of its model."""
        self._models.setdefault(entry.model, {})[entry] = None
        self._count += 1

    def remove(self, entry: Entry) -> None:
        """Takes an entry out, wherever it stands."""
        entries = self._models[entry.model]
        del entries[entry]
        self._count -= 1
        if not entries:
            del self._models[entry.model]

    def ripe_ns(self) -> int | None:
        """When the next batch is ripe; None when empty."""
        return min((self._ripe_ns(entries) for entries in self._models.values()), default=None)

    def take(self, now_ns: int) -> list[Entry]:
        """Removes and returns the batch that has been ripe longest; [] when none is."""
        if not self._models:
            return []
        model = min(self._models, key=lambda name: self._ripe_ns(self._models[name]))
        entries = self._models[model]
        if self._ripe_ns(entries) > now_ns:
            return []
        batch = [entry for entry, _ in zip(entries, range(self._batch_limit), strict=False)]
        for entry in batch:
            self.remove(entry)
        return batch

    def _ripe_ns(self, entries: dict[Entry, None]) -> int:
        oldest = next(iter(entries))
        held = 0 if len(entries) >= self._batch_limit else self._window_ns
        return oldest.arrived_ns + held
