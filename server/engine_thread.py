"""An engine in threads of the server: one computes, one loads new versions.

Invariant: a model that never returns holds the engine's own thread alone: never the event loop,
never `close`. Every future is resolved on the loop, or cancelled by `close`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from predawn.server.clock import Clock
from predawn.server.engine import Computed, Described, Loaded, ModelVersions
from predawn.server.engine_jobs import Jobs, Outcome, Slices, pair_batch
from predawn.server.engine_loader import Aside, Loader
from predawn.server.engine_recent import Recent
from predawn.server.engine_roster import Roster
from predawn.server.engine_worker import Job, Worker
from predawn.server.errors import InferenceError
from predawn.server.metrics import EngineCounts, Metrics
from predawn.server.models.loading import Recipe
from predawn.server.request import F32, Lane, RankBatch, UserBatch, UserId, UserItems

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class ThreadEngine:
    """recipes: of all models and rankers by name; nobody: a user without a past; gather: user ids
    to their recent past, called on the engine's thread; batch_limit: most users in a batch; nice:
    how far the computing thread gives way, where threads have a niceness (Linux)."""

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        nobody: UserBatch,
        gather: Callable[[Sequence[UserId]], UserBatch],
        clock: Clock,
        metrics: Metrics,
        batch_limit: int = 64,
        nice: int = 0,
    ) -> None:
        self._gather = gather
        self._metrics = metrics
        self._roster = Roster()
        recent = Recent(nobody, batch_limit)
        self._jobs = Jobs(self._roster, recent)
        self._loader = Loader(recipes, self._roster, recent, clock)
        self._worker = Worker(clock, nice)
        self._aside = Aside()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._described: dict[str, Described] | None = None
        self._pending: set[asyncio.Future[Outcome]] = set()

    @property
    def busy_since_ns(self) -> int:
        """When the running step began (monotonic); 0: idle."""
        return self._worker.busy_since_ns

    def start(self) -> None:
        """Starts the threads; results are delivered on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._worker.start()
        self._metrics.engine = self._counts

    async def ready(self) -> dict[str, Described]:
        """Loads and tries everything, the first time that it is asked. ConfigError names the
        setting, SnapshotError the file."""
        if self._described is None:
            self._described = await self._beside(self._loader.start_all)
        return self._described

    def close(self) -> None:
        """Cancels what is queued and lets the threads end after what they are at, if they ever
        do."""
        self._worker.close()
        self._aside.close()
        for future in self._pending:
            future.cancel()

    async def embed(self, model: str, users: Sequence[UserId]) -> Computed:
        """See `Engine`."""
        work = partial(self._jobs.embed, model, partial(self._gather, users))
        result = await self._submit(Lane.WAIT, model, work)
        assert isinstance(result, Computed)
        return result

    async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
        """See `Engine`."""
        work = partial(self._jobs.pairs, model, partial(pair_batch, self._gather, wanted))
        result = await self._submit(Lane.SPECULATE, model, work)
        assert isinstance(result, Computed)
        return result

    async def score(self, ranker: str, batch: RankBatch) -> F32:
        """See `Engine`."""
        result = await self._submit(Lane.RANK, ranker, partial(self._jobs.score, ranker, batch))
        assert not isinstance(result, Computed)
        return result

    async def load(self, name: str, version: int | None) -> Loaded:
        """See `Engine`."""
        loaded, _ = await self._beside(partial(self._loader.load, name, version))
        return loaded

    async def discard(self, names: Sequence[str]) -> None:
        """See `Engine`."""
        self._roster.discard(names)
        self._aside.run(self._roster.forget)

    async def swap(self, names: Sequence[str]) -> dict[str, int]:
        """See `Engine`."""
        live = self._roster.swap(names)
        self._aside.run(self._roster.forget)
        return live

    async def rollback(self, names: Sequence[str]) -> dict[str, int]:
        """See `Engine`."""
        live = self._roster.rollback(names)
        self._aside.run(self._roster.forget)
        return live

    def versions(self) -> dict[str, ModelVersions]:
        """See `Engine`."""
        return self._roster.versions()

    def _counts(self) -> EngineCounts:
        ready = self._described is not None
        return EngineCounts(0, self._loader.compiles(), self._roster.kept(), ready)

    def _submit(
        self, lane: Lane, name: str, work: Callable[[], Outcome | Slices]
    ) -> asyncio.Future[Outcome]:
        assert self._loop is not None, "start() first"
        future: asyncio.Future[Outcome] = self._loop.create_future()
        job = Job(lane, name, work, lambda outcome, ns: self._return(job, future, outcome, ns))
        self._pending.add(future)
        future.add_done_callback(partial(self._ended, job))
        if not self._worker.submit(job):
            future.cancel()
        return future

    def _ended(self, job: Job, future: asyncio.Future[Outcome]) -> None:
        self._pending.discard(future)
        job.dropped = True

    def _return(
        self,
        job: Job,
        future: asyncio.Future[Outcome],
        outcome: Outcome | InferenceError,
        took_ns: int,
    ) -> None:
        self._call_soon(self._deliver, job.lane, future, outcome, took_ns)

    def _deliver(
        self,
        lane: Lane,
        future: asyncio.Future[Outcome],
        outcome: Outcome | InferenceError,
        took_ns: int,
    ) -> None:
        if lane in (Lane.RANK, Lane.SPECULATE):  # the batcher counts the lanes between
            self._metrics.ran(lane, took_ns)
        if future.done():
            return
        if isinstance(outcome, InferenceError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    async def _beside(self, work: Callable[[], _T]) -> _T:
        """`work` on the thread that loads."""
        assert self._loop is not None, "start() first"
        future: asyncio.Future[_T] = self._loop.create_future()
        self._aside.run(lambda: self._call_soon(_settle, future, *_attempt(work)))
        return await future

    def _call_soon(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            _LOG.debug("engine: the loop closed before a result came back")


def _attempt(work: Callable[[], _T]) -> tuple[_T | None, BaseException | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error
    except BaseException as error:  # a model that calls sys.exit must not end the thread
        return None, RuntimeError(repr(error))


def _settle(
    future: "asyncio.Future[_T | None]", result: _T | None, error: BaseException | None
) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
