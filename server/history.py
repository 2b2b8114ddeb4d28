"""Events of users, kept: acknowledged only when they are on disk, committed in groups.

Invariant: the future of `append` resolves after the transaction that holds its events; events
become visible and durable in the order in which they were appended; what waits is bounded.
Life of an event: `append` (loop) -> buffer -> one transaction per group (writer thread) -> future
resolved (loop). `gather` reads from any thread and never waits for the writer.
"""

import asyncio
import contextlib
import random
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from predawn.server.clock import Clock
from predawn.server.config import HistoryConfig
from predawn.server.errors import BadRequest, Overloaded, Unavailable
from predawn.server.history_record import Events, RecordLayout
from predawn.server.history_store import EventStore
from predawn.server.request import UserBatch, UserId

__all__ = ["Events", "History", "HistoryLimits"]

_FUTURE_LIMIT_MS = 86_400_000
"""How far ahead of the clock an event may be: one in the wrong unit would stay newest for ever."""


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """The bounds and the promise; fields as in `HistoryConfig`."""

    size_limit_bytes: int = 4 * 2**30
    durability: Literal["disk", "process"] = "disk"
    commit_delay_ms: int = 2
    commit_events: int = 1024
    buffer_events: int = 100_000


_Append = tuple[Events, "asyncio.Future[int]"]


class History:
    """One event store of one process; several processes may open the same path.

    `open`, then `run` as a task; to end: cancel `run`, then `close` (which commits the rest).
    """

    def __init__(
        self,
        path: str,
        types: Sequence[str],
        attributes: Sequence[str],
        length: int,
        clock: Clock,
        limits: HistoryLimits | None = None,
        seed: int = 0,
    ) -> None:
        """path "": a directory that lives as long as this object is open."""
        self.layout = RecordLayout(types, attributes, length)
        self._path = path
        self._clock = clock
        self._limits = limits or HistoryLimits()
        self._random = random.Random(seed)
        self._waiting: deque[_Append] = deque()
        self._waiting_events = 0  # not yet taken into a group
        self._buffered_events = 0  # those, and the group being written
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._ends = contextlib.ExitStack()
        self._store: EventStore | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="predawn-history")

    @classmethod
    def from_config(cls, config: HistoryConfig, clock: Clock, seed: int = 0) -> "History":
        """As configured; not yet open."""
        limits = HistoryLimits(
            size_limit_bytes=config.size_limit,
            durability=config.durability,
            commit_delay_ms=config.commit_delay,
            commit_events=config.commit_events,
            buffer_events=config.buffer_limit,
        )
        attributes = config.attributes
        return cls(config.path, config.types, attributes, config.length, clock, limits, seed)

    def open(self) -> None:
        """Opens or creates the store. ConfigError names what is wrong with it."""
        with contextlib.ExitStack() as ends:
            path = self._path or ends.enter_context(tempfile.TemporaryDirectory(prefix="predawn-"))
            power_safe = self._limits.durability == "disk"
            store = EventStore(Path(path), self.layout, self._limits.size_limit_bytes, power_safe)
            ends.callback(store.close)
            self._ends = ends.pop_all()
        self._store = store

    def close(self) -> None:
        """Commits what waits, resolves its futures and closes. May block for one commit."""
        if self._store is not None and self._waiting:
            group = list(self._waiting)
            self._waiting.clear()
            job = self._writer.submit(self._write, self._store, group)
            self._settle(group, job.exception())
        self._writer.shutdown()
        self._store = None
        self._ends.close()

    def append(self, events: Events) -> "asyncio.Future[int]":
        """Queues the events; the future gives their number once they are committed, or
        `Unavailable` (store full or failing: none of them is kept). Raises at once, and changes
        nothing: BadRequest, UnknownName, Overloaded."""
        if self._store is None:
            raise Unavailable("the event store is not open")
        events = self._with_times(events)
        self.layout.check(events)
        cost = _cost(events)
        # An append alone always passes: refused, it would be refused for ever.
        if self._buffered_events and self._buffered_events + cost > self._limits.buffer_events:
            reason = f"history.buffer_limit: {self._buffered_events} events wait to be written"
            raise Overloaded(reason, self._random.uniform(0.5, 1.5))
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((events, future))
        self._waiting_events += cost
        self._buffered_events += cost
        self._signal()
        return future

    async def run(self) -> None:
        """Commits groups until cancelled."""
        while True:
            await self._arrived.wait()

            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.commit_delay_ms / 1000):
                    await self._full.wait()

            await self._commit()

    def gather(self, users: Sequence[UserId]) -> UserBatch:
        """What a user model sees of `users`; H = length. Safe from any thread."""
        return self._opened().gather(users)

    def users(self) -> Iterator[UserId]:
        """All users, in bounded chunks; safe from any thread."""
        return self._opened().users()

    def count_users(self) -> int:
        """How many users have a history."""
        return self._opened().count_users()

    def _opened(self) -> EventStore:
        if self._store is None:
            raise Unavailable("the event store is not open")
        return self._store

    def _with_times(self, events: Events) -> Events:
        now_ms = self._clock.wall_ms()
        late = np.flatnonzero(events.t_ms > now_ms + _FUTURE_LIMIT_MS)
        if len(late):
            value = int(events.t_ms[late[0]])
            reason = f"{value} is more than a day ahead of the clock; expected ms since 1970"
            raise BadRequest(f"events[{late[0]}].t_ms", reason)
        return replace(events, t_ms=np.where(events.t_ms < 0, now_ms, events.t_ms))

    async def _commit(self) -> None:
        group = self._take()
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._writer, self._write, self._opened(), group)
        # A callback and not a continuation: the group is settled also when `run` is cancelled.
        job.add_done_callback(lambda done: self._settle(group, done.exception()))

        await asyncio.wait({job})

    def _take(self) -> list[_Append]:
        group: list[_Append] = []
        size = 0
        while self._waiting and size < self._limits.commit_events:
            group.append(self._waiting.popleft())
            size += _cost(group[-1][0])
        self._waiting_events -= size
        self._signal()
        return group

    def _signal(self) -> None:
        _set(self._arrived, bool(self._waiting))
        _set(self._full, self._waiting_events >= self._limits.commit_events)

    @staticmethod
    def _write(store: EventStore, group: list[_Append]) -> None:
        store.write([events for events, _ in group])

    def _settle(self, group: list[_Append], error: BaseException | None) -> None:
        for events, future in group:
            self._buffered_events -= _cost(events)
            if future.done():  # its caller has gone; the events are kept all the same
                continue
            if error is None:
                future.set_result(len(events.users))
            else:
                future.set_exception(error)


def _set(event: asyncio.Event, on: bool) -> None:
    event.set() if on else event.clear()


def _cost(events: Events) -> int:
    return len(events.users) + len(events.attributes)
