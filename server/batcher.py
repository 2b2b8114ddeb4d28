"""Batches of keys for the engine: single-flight, strict lanes, windows, deadlines, a background
share, and an engine that may hang.

Invariant: at most one computation of a (model, user) is queued or running; whoever asks meanwhile
joins it. One task (`run`) owns the queues and gives the engine one batch of one model at a time;
nothing of a lower lane begins while something of a higher lane is queued. Every future handed out
is resolved, or its caller has given up. All on the event loop's thread.

    submit -> entry in its lane's queue -> run: ripe? -> engine.embed -> land -> futures
       joins an entry that is queued (and lifts it to a higher lane) or running
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from predawn.server.batcher_queue import Caller, Entry, LaneQueue, Served
from predawn.server.batcher_share import ShareAccount
from predawn.server.clock import Clock
from predawn.server.engine import Computed, EmbedsUsers
from predawn.server.errors import (
    DeadlineExceeded,
    EngineLost,
    InferenceError,
    Overloaded,
    Unavailable,
)
from predawn.server.metrics import Metrics
from predawn.server.request import F32, Lane, UserId

__all__ = ["NO_DEADLINE_NS", "Batcher", "BatcherLimits", "Served"]

NO_DEADLINE_NS = 2**63 - 1

_MS = 1_000_000
_LONGEST_RETRY_S = 30.0
_SHORTEST_RETRY_S = 0.05
_LOST_NS = 250 * _MS  # a lost engine is left alone for so long; then one batch tries it again


@dataclass(frozen=True, slots=True)
class BatcherLimits:
    """[batcher] and [engine] of the config. `seed`: of the retry hints' jitter."""

    batch_limit: int = 64
    wait_window_ms: float = 1
    refresh_window_ms: float = 50
    wait_queue_limit: int = 1024
    refresh_queue_limit: int = 8192
    background_share: float = 0.5
    hang_after_ms: int = 2_000
    seed: int = 0


class Batcher:
    """land: (model, users, raw rows, snapshot) -> served rows, as `UserCache.land`; flushed: waits
    until what has landed is written."""

    def __init__(
        self,
        engine: EmbedsUsers,
        land: Callable[[str, Sequence[UserId], F32, int], F32],
        flushed: Callable[[], Awaitable[None]],
        clock: Clock,
        limits: BatcherLimits,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._land = land
        self._flushed = flushed
        self._clock = clock
        self._limits = limits
        self._metrics = metrics
        self._queues = {
            Lane.WAIT: _queue(limits, limits.wait_window_ms, limits.wait_queue_limit),
            Lane.REFRESH: _queue(limits, limits.refresh_window_ms, limits.refresh_queue_limit),
        }
        self._entries: dict[tuple[str, UserId], Entry] = {}
        self._share = ShareAccount(limits.background_share, clock.monotonic_ns())
        self._random = random.Random(limits.seed)
        self._running_since_ns: int | None = None
        self._lost_until_ns = 0
        self._user_ns = 0.0  # engine time per user, exponentially averaged
        self._idle: asyncio.Future[None] | None = None
        self._closed = False

    def submit(self, model: str, user: UserId, lane: Lane, deadline_ns: int) -> Caller:
        """A future of the user's new embedding; `lane` WAIT or REFRESH. On the future:
        InferenceError, DeadlineExceeded (NO_DEADLINE_NS: never), Unavailable once closed.
        Overloaded, at once, when the lane is full or the engine hangs or is lost. Cancel it to give
        up."""
        now_ns = self._clock.monotonic_ns()
        self._refuse_when_hung(now_ns)
        caller: Caller = asyncio.get_running_loop().create_future()
        if self._closed:
            _fail(caller, Unavailable("shutting down"))
        elif deadline_ns <= now_ns:
            _fail(caller, DeadlineExceeded("the deadline had passed on arrival"))
        else:
            entry = self._entry(model, user, lane, now_ns)
            entry.background |= lane is Lane.REFRESH
            entry.callers[caller] = (deadline_ns, lane)
            caller.add_done_callback(partial(self._gave_up, entry))
            self._wake()
        return caller

    def invalidated(self, model: str, users: Sequence[UserId]) -> None:
        """`UserCache.on_invalidate`: a running computation of these users began before the
        invalidation, so its result is dropped and computed again for those who wait."""
        for user in users:
            entry = self._entries.get((model, user))
            if entry is not None and entry.running:
                entry.void = True

    def share_below(self) -> ShareAccount:
        """What refreshes leave over of the background's share of engine time."""
        return self._share.below(self._clock.monotonic_ns())

    def depths(self) -> dict[str, int]:
        """Users queued, by lane."""
        return {lane.name.lower(): len(queue) for lane, queue in self._queues.items()}

    async def run(self) -> None:
        """Forms and runs batches until closed or cancelled."""
        while not self._closed:
            now_ns = self._clock.monotonic_ns()
            batch = self._form(now_ns)

            if batch:
                await self._execute(batch)
            else:
                await self._changed(now_ns)

    async def close(self) -> None:
        """Refuses new work, fails what is queued or running with Unavailable, and returns when
        everything that was computed is written. Does not wait for the engine."""
        self._closed = True
        for queue in self._queues.values():
            for entry in list(queue):
                queue.remove(entry)
        for entry in list(self._entries.values()):
            self._fail_entry(entry, Unavailable("shutting down"))
        self._wake()

        await self._flushed()

    # Admission

    def _refuse_when_hung(self, now_ns: int) -> None:
        if now_ns < self._lost_until_ns:
            raise Overloaded("engine lost, being started again", self._jittered(_LOST_NS / 1e9))
        if self._running_since_ns is None:
            return
        busy_ms = (now_ns - self._running_since_ns) // _MS
        if busy_ms > self._limits.hang_after_ms:
            raise Overloaded(
                f"engine busy for {busy_ms} ms", self._jittered(self._limits.hang_after_ms / 1e3)
            )

    def _entry(self, model: str, user: UserId, lane: Lane, now_ns: int) -> Entry:
        """The key's entry: the one under way, lifted to `lane` where that is higher, or a new."""
        entry = self._entries.get((model, user))
        if entry is None:
            self._refuse_when_full(lane)
            entry = self._entries[model, user] = Entry(model, user, lane, now_ns)
            self._queues[lane].append(entry)
        else:
            if lane < entry.lane and not entry.running:
                self._refuse_when_full(lane)
                self._move(entry, lane, now_ns)
            self._metrics.joined(model)
        return entry

    def _refuse_when_full(self, lane: Lane) -> None:
        queue = self._queues[lane]
        if queue.full:
            wait_s = len(queue) * self._user_ns / 1e9
            raise Overloaded(
                f"{lane.name.lower()} queue is full ({len(queue)} users)", self._jittered(wait_s)
            )

    def _jittered(self, wait_s: float) -> float:
        """A retry hint around `wait_s`, spread so that the refused do not come back together."""
        bounded = min(max(wait_s, _SHORTEST_RETRY_S), _LONGEST_RETRY_S)
        return bounded * self._random.uniform(0.5, 1.5)

    def _move(self, entry: Entry, lane: Lane, arrived_ns: int) -> None:
        self._queues[entry.lane].remove(entry)
        entry.lane, entry.arrived_ns = lane, arrived_ns
        self._queues[lane].append(entry)

    def _gave_up(self, entry: Entry, caller: Caller) -> None:
        """Forgets a cancelled caller; an entry that nobody wants leaves the queue."""
        if not caller.cancelled() or entry.callers.pop(caller, None) is None or entry.running:
            return
        if not entry.callers and not entry.background:
            self._queues[entry.lane].remove(entry)
            del self._entries[entry.model, entry.user]
        elif entry.lane_wanted() > entry.lane:
            self._move(entry, entry.lane_wanted(), entry.arrived_ns)

    # Formation

    def _form(self, now_ns: int) -> list[Entry]:
        """The next batch, in strict lane order; [] when there is nothing to run yet."""
        for lane, queue in self._queues.items():
            if lane > Lane.WAIT and not self._share.may_start(now_ns):
                return []
            while taken := queue.take(now_ns):
                batch = [entry for entry in taken if self._belongs(entry, now_ns)]
                if batch:
                    return batch
            if queue:  # held for company: nothing lower goes before it
                return []
        return []

    def _belongs(self, entry: Entry, now_ns: int) -> bool:
        """False for an entry that nobody waits for any more: it is dropped, or goes back to the
        lane of those who are left."""
        late = entry.expire(now_ns)
        for caller in late:
            _fail(caller, DeadlineExceeded("the deadline passed in the queue"))
        if not entry.callers and (late or not entry.background):
            del self._entries[entry.model, entry.user]
            return False
        if entry.lane_wanted() > entry.lane:
            entry.lane = entry.lane_wanted()
            self._queues[entry.lane].append(entry)
            return False
        return True

    def _due_ns(self, now_ns: int) -> int | None:
        """When `_form` is to be asked again, if nothing happens before."""
        for lane, queue in self._queues.items():
            ripe_ns = queue.ripe_ns()
            if ripe_ns is not None:
                return (
                    ripe_ns if lane is Lane.WAIT else max(ripe_ns, self._share.allowed_ns(now_ns))
                )
        return None

    async def _changed(self, now_ns: int) -> None:
        """Until something is submitted or the next batch is due."""
        loop = asyncio.get_running_loop()
        self._idle = loop.create_future()
        due_ns = self._due_ns(now_ns)
        timer = None
        if due_ns is not None:
            timer = loop.call_later(max(0, due_ns - now_ns) / 1e9 + 1e-6, self._wake)
        try:
            await self._idle
        finally:
            self._idle = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    # Execution

    async def _execute(self, batch: list[Entry]) -> None:
        model, lane = batch[0].model, batch[0].lane
        for entry in batch:
            entry.running = True
        began_ns = self._running_since_ns = self._clock.monotonic_ns()
        try:
            computed = await self._engine.embed(model, [entry.user for entry in batch])
            self._land_batch(batch, computed)
            took_ns = computed.engine_ns
        except asyncio.CancelledError:
            self._fail_batch(batch, Unavailable("shutting down"))
            raise
        except Exception as error:
            took_ns = self._clock.monotonic_ns() - began_ns
            if isinstance(error, EngineLost):
                self._lost_until_ns = self._clock.monotonic_ns() + _LOST_NS
            self._metrics.inferred(model, lane, "failed", len(batch))
            self._fail_batch(batch, _as_inference_error(model, error))
        finally:
            self._running_since_ns = None
        self._account(lane, len(batch), took_ns)

    def _land_batch(self, batch: list[Entry], computed: Computed) -> None:
        """Lands the good rows, fails the bad ones, and queues the invalidated ones again."""
        model, lane = batch[0].model, batch[0].lane
        good = [i for i, entry in enumerate(batch) if computed.ok[i] and not entry.void]
        if good:
            users = [batch[i].user for i in good]
            served = self._land(model, users, computed.rows[good], computed.snapshot)
            for row, i in zip(served, good, strict=True):
                self._resolve(batch[i], (row, computed.snapshot))
        for i, entry in enumerate(batch):
            if entry.void:
                self._again(entry)
            elif not computed.ok[i]:
                self._fail_entry(entry, InferenceError(model, computed.error))
        finite = int(computed.ok.sum())
        self._metrics.inferred(model, lane, "ok", finite)
        self._metrics.inferred(model, lane, "invalid", len(batch) - finite)

    def _resolve(self, entry: Entry, served: Served) -> None:
        late = entry.expire(self._clock.monotonic_ns())
        del self._entries[entry.model, entry.user]
        for caller in late:
            _fail(caller, DeadlineExceeded("computed after the deadline"))
        for caller in entry.callers:
            caller.set_result(served)

    def _again(self, entry: Entry) -> None:
        entry.running = entry.void = False
        if entry.callers or entry.background:
            entry.lane = entry.lane_wanted()
            self._queues[entry.lane].append(entry)
        else:
            del self._entries[entry.model, entry.user]

    def _fail_batch(self, batch: list[Entry], error: Exception) -> None:
        for entry in batch:
            self._fail_entry(entry, error)

    def _fail_entry(self, entry: Entry, error: Exception) -> None:
        self._entries.pop((entry.model, entry.user), None)
        for caller in entry.callers:
            _fail(caller, error)
        entry.callers.clear()

    def _account(self, lane: Lane, users: int, took_ns: int) -> None:
        self._metrics.batch(lane, users, took_ns)
        # A hang is no work: it must neither silence the refreshes after it nor lengthen the hints.
        work_ns = min(took_ns, self._limits.hang_after_ms * _MS)
        if lane > Lane.WAIT:
            self._share.spend(work_ns)
        per_user_ns = work_ns / users
        self._user_ns += 0.2 * (per_user_ns - self._user_ns) if self._user_ns else per_user_ns


def _queue(limits: BatcherLimits, window_ms: float, limit: int) -> LaneQueue:
    return LaneQueue(round(window_ms * _MS), limit, limits.batch_limit)


def _as_inference_error(model: str, error: Exception) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    return InferenceError(model, f"{type(error).__name__}: {error}")


def _fail(caller: Caller, error: Exception) -> None:
    if not caller.done():
        caller.set_exception(error)
        caller.exception()  # seen: a caller that has left by its deadline is not an error to log
