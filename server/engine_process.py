"""An engine in a process of its own: what a model does to it cannot reach the server.

Invariant: every future is resolved on the loop: with the result, with an `EngineLost` that says how
the process was lost, or cancelled by `close`. What was live, staged and previous is so again
after a restart. This process imports no model: histories are gathered here, computed there.

    embed -> Supervisor.post -> gather (sending thread) -> process -> receiving thread -> loop
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from predawn.server.clock import Clock
from predawn.server.engine import Computed, Described, Loaded, ModelVersions
from predawn.server.engine_jobs import pair_batch
from predawn.server.engine_messages import (
    Beat,
    Drop,
    Fault,
    FromChild,
    Load,
    LoadDone,
    Logged,
    Refused,
    Restored,
    Setup,
    Started,
    ToChild,
    Turn,
    TurnDone,
    Work,
    WorkDone,
    fault_of,
)
from predawn.server.engine_roster import Change
from predawn.server.engine_supervisor import Parcel, Supervisor, Watch
from predawn.server.errors import ConfigError, EngineLost, InferenceError
from predawn.server.metrics import EngineCounts, Metrics
from predawn.server.models.loading import Recipe
from predawn.server.request import F32, Lane, RankBatch, UserBatch, UserId, UserItems

_LOG = logging.getLogger(__name__)
_Answer: TypeAlias = Computed | F32 | Loaded | Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Something that the process has been or is being told. name: of the model."""

    name: str
    lane: Lane
    answer: asyncio.Future[Any]


class ProcessEngine:
    """Parameters as of `ThreadEngine`; watch: when the process counts as hung, and how soon it is
    started again; expected: what is known of the models before the process says it, whose versions
    it is to load."""

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        nobody: UserBatch,
        gather: Callable[[Sequence[UserId]], UserBatch],
        clock: Clock,
        metrics: Metrics,
        batch_limit: int = 64,
        nice: int = 0,
        watch: Watch | None = None,
        expected: Mapping[str, Described] | None = None,
    ) -> None:
        self._recipes = recipes
        self._nobody = nobody
        self._gather = gather
        self._metrics = metrics
        self._batch_limit = batch_limit
        self._nice = nice
        self._watch = watch or Watch()
        self._supervisor = Supervisor(self._setup, self._heard, self._was_lost, self._watch, clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[dict[str, Described]] | None = None
        self._asked: dict[int, _Asked] = {}
        self._next_id = 0
        self._down = ""  # why the process cannot be asked now
        self._up = asyncio.Event()
        self._up.set()
        self._closed = False
        self._versions = {
            name: ModelVersions(each.version) for name, each in (expected or {}).items()
        }
        self._matrices: dict[tuple[str, int], F32] = {}
        self._described: Mapping[str, Described] = {}
        self._restarts = 0
        self._compiles_before = 0  # of the processes before this one
        self._beat = Beat(0, 0, {})

    @property
    def pid(self) -> int:
        """Of the process; 0 when there is none."""
        return self._supervisor.pid

    def start(self) -> None:
        """Starts the process; results are delivered on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        self._supervisor.start()
        self._metrics.engine = self._counts

    async def ready(self) -> dict[str, Described]:
        """When everything is loaded and tried. ConfigError names the setting, SnapshotError the
        file. Work that is asked for before waits for it."""
        assert self._ready is not None, "start() first"
        return await asyncio.shield(self._ready)

    def close(self) -> None:
        """Cancels what is under way and kills the process."""
        self._closed = True
        self._up.set()
        for asked in list(self._asked.values()):
            asked.answer.cancel()
        if self._ready is not None:
            self._ready.cancel()
        self._supervisor.close()

    async def embed(self, model: str, users: Sequence[UserId]) -> Computed:
        """See `Engine`."""
        computed: Computed = await self._ask(
            model, Lane.WAIT, lambda id: Work(id, model, self._gather(users))
        )
        return computed

    async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
        """See `Engine`. Nobody waits for pairs: those asked for while the process is lost are
        computed by the next."""
        await self._up.wait()
        computed: Computed = await self._ask(
            model, Lane.SPECULATE, lambda id: Work(id, model, pair_batch(self._gather, wanted))
        )
        return computed

    async def score(self, ranker: str, batch: RankBatch) -> F32:
        """See `Engine`."""
        scores: F32 = await self._ask(ranker, Lane.RANK, lambda id: Work(id, ranker, batch))
        return scores

    async def load(self, name: str, version: int | None) -> Loaded:
        """See `Engine`."""
        loaded: Loaded = await self._ask(name, Lane.WAIT, lambda id: Load(id, name, version))
        return loaded

    async def discard(self, names: Sequence[str]) -> None:
        """See `Engine`."""
        await self._turn("discard", names)

    async def swap(self, names: Sequence[str]) -> dict[str, int]:
        """See `Engine`."""
        return await self._turn("swap", names)

    async def rollback(self, names: Sequence[str]) -> dict[str, int]:
        """See `Engine`."""
        return await self._turn("rollback", names)

    def versions(self) -> dict[str, ModelVersions]:
        """See `Engine`."""
        return dict(self._versions)

    async def _turn(self, change: Change, names: Sequence[str]) -> dict[str, int]:
        if not names:
            return {}
        told = tuple(names)
        live: dict[str, int] = await self._ask(
            told[0], Lane.RANK, lambda id: Turn(id, change, told)
        )
        return live

    # Asking, on the loop

    def _ask(self, name: str, lane: Lane, make: Callable[[int], ToChild]) -> asyncio.Future[Any]:
        assert self._loop is not None, "start() first"
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            answer.cancel()
        elif self._down:
            answer.set_exception(EngineLost(name, self._down))
        else:
            id = self._next_id
            self._next_id += 1
            self._asked[id] = _Asked(name, lane, answer)
            answer.add_done_callback(partial(self._answered, id))
            failed = partial(self._call_soon, self._not_made, id)
            self._supervisor.post(Parcel(lane, partial(self._made, id, make), failed))
        return answer

    def _made(self, id: int, make: Callable[[int], ToChild]) -> ToChild:
        """On the sending thread; work that was given up in the meantime is not gathered."""
        return make(id) if id in self._asked else Drop(id)

    def _not_made(self, id: int, error: Exception) -> None:
        self._answer(id, fault_of("", error))

    def _answered(self, id: int, answer: asyncio.Future[Any]) -> None:
        asked = self._asked.pop(id, None)
        if asked is not None and answer.cancelled() and not self._closed:
            drop = Parcel(asked.lane, lambda: Drop(id), lambda error: None)
            self._supervisor.post(drop)

    # Answers and losses: from the receiving thread to the loop

    def _heard(self, message: FromChild) -> None:
        self._call_soon(self._take, message)

    def _was_lost(self, reason: str) -> None:
        self._call_soon(self._lose, reason)

    def _call_soon(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            _LOG.debug("engine: the loop closed before a result came back")

    def _take(self, message: FromChild) -> None:
        match message:
            case WorkDone(id, outcome, spent_ns):
                asked = self._asked.get(id)
                if asked is not None and asked.lane in (Lane.RANK, Lane.SPECULATE):
                    self._metrics.ran(asked.lane, spent_ns)  # the batcher counts the others
                self._answer(id, outcome)
            case LoadDone(id, outcome, matrix, versions):
                self._versions = dict(versions)
                if isinstance(outcome, Loaded) and matrix is not None:
                    self._matrices[outcome.name, outcome.version] = matrix
                self._answer(id, outcome)
            case TurnDone(id, outcome, versions):
                self._versions = dict(versions)
                self._answer(id, outcome)
            case Beat():
                self._beat = message
            case Logged(logger, level, text):
                logging.getLogger(logger).log(level, "%s", text)
            case Started(described, versions):
                self._start_over(described, versions)
            case Restored(versions):
                self._versions = dict(versions)
            case Refused(fault):
                self._refuse(fault.error())

    def _answer(self, id: int, outcome: _Answer | Fault) -> None:
        asked = self._asked.get(id)
        if asked is None or asked.answer.done():
            return
        if not isinstance(outcome, Fault):
            asked.answer.set_result(outcome)
        elif outcome.subject:
            asked.answer.set_exception(outcome.error())
        else:
            asked.answer.set_exception(InferenceError(asked.name, outcome.reason))

    def _start_over(
        self, described: Mapping[str, Described], versions: Mapping[str, ModelVersions]
    ) -> None:
        """The process is up. What was beside the live versions comes back a little later."""
        assert self._ready is not None
        self._down = ""
        self._up.set()
        if not self._ready.done():
            self._versions, self._described = dict(versions), dict(described)
            self._ready.set_result(dict(described))
        known = self._versions
        self._versions = {
            name: replace(known[name], live=each.live) for name, each in versions.items()
        }

    def _refuse(self, error: Exception) -> None:
        """Models that cannot be made end the start; after that they may come back."""
        assert self._ready is not None
        if self._ready.done():
            _LOG.error("the models cannot be made again: %s", error)
            return
        self._closed = True
        self._ready.set_exception(error)
        self._supervisor.close()

    def _lose(self, reason: str) -> None:
        assert self._ready is not None
        if self._closed:
            return
        if not self._ready.done():
            told = f"the models' process {reason} while it loaded them"
            self._refuse(ConfigError("engine.isolation", told))
            return
        self._restarts += 1
        self._compiles_before += self._beat.compiles
        self._beat = Beat(0, 0, {})
        self._down = f"the engine's process {reason}"
        self._up.clear()
        for asked in list(self._asked.values()):
            if not asked.answer.done():
                asked.answer.set_exception(EngineLost(asked.name, self._down))

    def _setup(self) -> Setup:
        """On the receiving thread: what a new process needs to stand where the last one stood."""
        level = logging.getLogger().getEffectiveLevel()
        return Setup(
            self._recipes,
            self._nobody,
            self._batch_limit,
            self._nice,
            self._watch.beat_s,
            level,
            dict(self._versions),
            dict(self._matrices),
            self._described,
        )

    def _counts(self) -> EngineCounts:
        compiles = self._compiles_before + self._beat.compiles
        ready = self._ready is not None and self._ready.done() and not self._down
        return EngineCounts(self._restarts, compiles, self._beat.kept, ready)
