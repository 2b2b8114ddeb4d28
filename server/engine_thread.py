"""An engine in a thread of the server: it owns the device and runs the models.

Invariant: a model that never returns holds the engine's thread alone: never the event loop, never
`close`.
"""

import asyncio
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.server.clock import Clock
from predawn.server.engine import Computed, checked_rows
from predawn.server.errors import InferenceError
from predawn.server.metrics import Metrics
from predawn.server.models.contract import RankerModel, UserModel
from predawn.server.request import F32, Lane, RankBatch, UserBatch, UserId

_LOG = logging.getLogger(__name__)
_LOG_EVERY_NS = 10_000_000_000  # a failing model writes one traceback in so much time
_NICEST = 19
_JOIN_S = 1.0  # an idle thread ends at once; a busy one is left behind as a daemon


@dataclass(slots=True, eq=False)
class _Job:
    lane: Lane
    run: Callable[[], Computed | F32]
    result: asyncio.Future[Computed | F32]


class ThreadEngine:
    """models, rankers: by name; gather: user ids to their recent past, called on the engine's
    thread; versions: snapshot numbers by model name (0 where absent); nice: added to the thread's
    own niceness where threads have one (Linux). Rank jobs go before batches."""

    def __init__(
        self,
        models: Mapping[str, UserModel],
        rankers: Mapping[str, RankerModel],
        gather: Callable[[Sequence[UserId]], UserBatch],
        clock: Clock,
        metrics: Metrics,
        versions: Mapping[str, int],
        nice: int = 0,
    ) -> None:
        self._models = models
        self._rankers = rankers
        self._gather = gather
        self._clock = clock
        self._metrics = metrics
        self._versions = versions
        self._nice = nice
        self._queues: tuple[deque[_Job], deque[_Job]] = (deque(), deque())  # rank, embed
        self._changed = threading.Condition()
        self._closed = False
        self._busy_since_ns = 0
        self._logged_ns = -_LOG_EVERY_NS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="predawn-engine", daemon=True)

    @property
    def busy_since_ns(self) -> int:
        """When the running job began (monotonic); 0: idle."""
        return self._busy_since_ns

    def start(self) -> None:
        """Starts the thread; results are delivered on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Cancels what is queued and lets the thread end after the running job, if it ever does."""
        with self._changed:
            self._closed = True
            left = [job for queue in self._queues for job in queue]
            for queue in self._queues:
                queue.clear()
            self._changed.notify()
        for job in left:
            job.result.cancel()
        if self._thread.is_alive() and self._busy_since_ns == 0:
            self._thread.join(_JOIN_S)

    async def embed(self, model: str, users: Sequence[UserId]) -> Computed:
        """See `Engine`: gathers the users' histories and runs the model, on the engine's thread."""
        result = await self._submit(Lane.WAIT, lambda: self._embed(model, users))
        assert isinstance(result, Computed)
        return result

    async def score(self, ranker: str, batch: RankBatch) -> F32:
        """See `Engine`."""
        result = await self._submit(Lane.RANK, lambda: self._score(ranker, batch))
        assert not isinstance(result, Computed)
        return result

    def _submit(
        self, lane: Lane, run: Callable[[], Computed | F32]
    ) -> asyncio.Future[Computed | F32]:
        assert self._loop is not None, "start() first"
        job = _Job(lane, run, self._loop.create_future())
        with self._changed:
            if self._closed:
                job.result.cancel()
            else:
                self._queues[lane > Lane.RANK].append(job)
                self._changed.notify()
        return job.result

    def _work(self) -> None:
        self._give_way()
        while (job := self._take()) is not None:
            if job.result.cancelled():
                continue
            began_ns = self._busy_since_ns = self._clock.monotonic_ns()
            try:
                result: Computed | F32 | Exception = job.run()
            except Exception as error:
                result = error
            except BaseException as error:  # a model that calls sys.exit must not end the thread
                result = RuntimeError(repr(error))
            took_ns = self._clock.monotonic_ns() - began_ns
            self._busy_since_ns = 0
            self._return(job, result, took_ns)

    def _give_way(self) -> None:
        """Lets the event loop's thread have the core first when there are too few of them."""
        if self._nice and sys.platform == "linux":  # elsewhere niceness is the whole process's
            thread = threading.get_native_id()
            nice = os.getpriority(os.PRIO_PROCESS, thread) + self._nice
            os.setpriority(os.PRIO_PROCESS, thread, min(nice, _NICEST))

    def _take(self) -> _Job | None:
        """The next job in lane order; waits for one; None once closed."""
        rank, embed = self._queues
        with self._changed:
            while not (rank or embed or self._closed):
                self._changed.wait()
            if self._closed:
                return None
            return rank.popleft() if rank else embed.popleft()

    def _return(self, job: _Job, result: Computed | F32 | Exception, took_ns: int) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, job, result, took_ns)
        except RuntimeError:
            _LOG.debug("engine: the loop closed before a result came back")

    def _deliver(self, job: _Job, result: Computed | F32 | Exception, took_ns: int) -> None:
        if job.lane is Lane.RANK:
            self._metrics.engine_ns[Lane.RANK] += took_ns
        if job.result.done():
            return
        if isinstance(result, Exception):
            job.result.set_exception(result)
        else:
            job.result.set_result(result)

    def _embed(self, name: str, users: Sequence[UserId]) -> Computed:
        began_ns = self._clock.monotonic_ns()
        try:
            model = self._models[name]
            rows = model.embed(self._gather(users))
            checked_rows(name, rows, (len(users), model.dim))
        except Exception as error:
            self._log(name, error)
            if isinstance(error, InferenceError):
                raise
            raise InferenceError(name, f"{type(error).__name__}: {error}") from error
        ok: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(rows), axis=1)
        error_text = "" if ok.all() else "the embedding is not finite"
        took_ns = self._clock.monotonic_ns() - began_ns
        return Computed(rows, ok, self._versions.get(name, 0), took_ns, error_text)

    def _score(self, name: str, batch: RankBatch) -> F32:
        try:
            ranker = self._rankers[name]
            shape = (len(batch.item_hashes), len(ranker.tasks))
            return checked_rows(name, ranker.score(batch), shape)
        except Exception as error:
            if isinstance(error, InferenceError):
                raise
            raise InferenceError(name, f"{type(error).__name__}: {error}") from error

    def _log(self, name: str, error: Exception) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._logged_ns >= _LOG_EVERY_NS:
            self._logged_ns = now_ns
            _LOG.error("user model %r failed", name, exc_info=error)
