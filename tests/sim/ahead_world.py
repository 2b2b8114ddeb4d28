"""A server's pairs without the rest of it, in virtual time: the real store with its fills, reader,
predictor, scheduler, budget and ledger around a foundation model that says what its rows are made
of."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sim.ahead_checker import AheadChecker, Rules
from sim.ahead_engine import DIM, VERSIONS_ALIKE, AheadEngine, Script, line_of

from predawn.csrc import _core
from predawn.server.batcher_share import ShareAccount
from predawn.server.cache_place import TableSpec
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import FillRules, PairCache
from predawn.server.pair_neighbours import NeighbourKind, NeighbourLimits, Neighbours
from predawn.server.pipeline_pairs import PairReader
from predawn.server.request import (
    F32,
    I64,
    U8,
    RankReply,
    RankRequest,
    Source,
    UserId,
    UserItems,
    UserRow,
)
from predawn.server.simloop import LoopClock, SimLoop
from predawn.server.speculation.assembly import EngineTime, speculator_of
from predawn.server.speculation.contract import PredictsPairs
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.predictor import PredictorLimits, predictor_of

SEED = bytes(range(32))
VECTOR = 16
_NO_FEATURES: F32 = np.zeros((64, 0), dtype=np.float32)


class JumpingClock(LoopClock):
    """Its wall clock can be set, forward and back."""

    offset_ms = 0
    set_back_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.offset_ms

    def jump(self, ms: int) -> None:
        """Sets the wall clock `ms` ahead, or back."""
        self.offset_ms += ms
        self.set_back_ms += max(0, -ms)


@dataclass(frozen=True, slots=True)
class ModelSetup:
    """One [pairs.NAME]. sure: as of `ahead_checker.Rules`."""

    limits: PairLimits
    fills: FillRules
    neighbours: NeighbourKind
    dtype: str
    predictor: Literal["learned", "score", "recency", "none"]
    sure: bool


@dataclass(frozen=True, slots=True)
class AheadSetup:
    """What a world is made of. share: of the engine for all pairs."""

    models: Mapping[str, ModelSetup]
    script: Script
    users: int
    items: int
    share: float
    hang_after_ms: int
    jumps: bool
    seed: int


class WatchedPairs(PairCache):
    """The real one, with what it lands reported."""

    checker: AheadChecker

    def land(
        self,
        model: str,
        wanted: Sequence[UserItems],
        raw: F32,
        snapshot: int,
        origin: U8 | int = _core.ORIGIN_COMPUTED,
    ) -> int:
        self.checker.landed(model, raw)
        return super().land(model, wanted, raw, snapshot, origin)


class AheadWorld:
    """See the module. numbers of users are positions; every third is a string to the server."""

    def __init__(self, loop: SimLoop, setup: AheadSetup) -> None:
        self.loop, self.setup = loop, setup
        self.clock = JumpingClock(loop, start_wall_ms=1_700_000_000_000)
        self.metrics = Metrics((), (), tuple(setup.models))
        self.users: list[UserId] = [
            f"user-{number}" if number % 3 == 2 else number for number in range(setup.users)
        ]
        self.epochs: I64 = np.zeros(setup.users, dtype=np.int64)
        rng = np.random.default_rng(setup.seed)
        self._vectors = rng.standard_normal((setup.users, VECTOR)).astype(np.float32)
        self._scores = rng.random(setup.items).astype(np.float32)
        self.checker = AheadChecker(
            self.clock,
            {name: _rules(each) for name, each in setup.models.items()},
            setup.users,
            setup.items,
            setup.share,
            setup.hang_after_ms,
            self.epochs,
            lambda: self.clock.set_back_ms,
        )
        numbers = {user: number for number, user in enumerate(self.users)}
        self.engine = AheadEngine(
            self.clock, setup.script, tuple(setup.models), numbers, self.epochs, setup.seed
        )
        self.engine.began = self.checker.began
        self._make(setup)

    def _make(self, setup: AheadSetup) -> None:
        """The server's parts."""
        self.neighbours = {
            name: _neighbours(each, self.clock, setup.seed)
            for name, each in setup.models.items()
            if Source.NEIGHBOUR in each.fills.order
        }
        self.pairs = WatchedPairs(
            [_spec(name, each) for name, each in setup.models.items()],
            self.clock,
            SEED,
            fills={name: each.fills for name, each in setup.models.items()},
            neighbours=self.neighbours,
        )
        self.pairs.checker = self.checker
        for name in setup.models:
            self.change_version(name, 1)
        self.speculator = speculator_of(
            {name: each.limits for name, each in setup.models.items()},
            {name: _predictor(each, setup.seed) for name, each in setup.models.items()},
            self.engine,
            self.pairs,
            EngineTime(ShareAccount(setup.share, 0), setup.share, setup.hang_after_ms),
            self.clock,
            self.metrics,
            setup.seed,
        )
        ttls_ms = {name: each.limits.ttl_ms for name, each in setup.models.items()}
        self.reader = PairReader(self.pairs, ttls_ms, self.speculator, self.metrics)

    # What happens to it

    def ask(self, user: int, items: I64) -> None:
        """A request, read, checked, and what follows its reply. Nothing in it waits."""
        request = RankRequest(
            self.users[user], items.astype(np.uint64), _NO_FEATURES[: len(items)], "", 0, 0
        )
        known = {"light": UserRow(Source.DIRECT, 0, self._vectors[user])}
        pairs = self.reader.read(tuple(self.setup.models), request, known)
        scores = self._scores[items]
        for name, rows in pairs.items():
            self.checker.served(name, user, items, rows)
            self.checker.told(name, len(items))
        self.checker.requests += 1
        reply = RankReply(np.argsort(-scores), scores, known, degraded=False, pairs=pairs)
        self.reader.after_reply(request, reply)

    def invalidate(self, users: Sequence[int]) -> None:
        """As POST /v1/invalidate does."""
        for user in dict.fromkeys(users):
            self.checker.invalidated(user)
        self.pairs.invalidate([self.users[user] for user in users], None)

    def hint(self, user: int) -> None:
        """As POST /v1/hint does."""
        self.speculator.hint(self.users[user])

    def change_version(self, model: str, version: int) -> None:
        """As a swap does: the engine computes with it from the next batch on."""
        first = line_of(version) * VERSIONS_ALIKE + 1
        alike = range(first, first + VERSIONS_ALIKE)
        self.engine.versions[model] = version
        self.pairs.replace_version(model, version, alike)
        if model in self.neighbours:
            self.neighbours[model].replace_version(version, alike)
        self.checker.served_by(model, alike)

    async def restart_tasks(self) -> None:
        """What runs in the background is cancelled and begins again."""
        await self._end()
        self._begin()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """With its background task; at the end everything is checked."""
        self._begin()
        try:
            yield
        finally:
            await self._end()
            self.checker.at_the_end()
            assert self.pairs.check() == []
            for name, each in self.speculator.models.items():
                self.checker.accounted(name, each.planner.ledger)

    def _begin(self) -> None:
        works = [self.speculator.run(), *(each.run() for each in self.neighbours.values())]
        self._tasks = [asyncio.create_task(work) for work in works]

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()):
                raise error


def _rules(model: ModelSetup) -> Rules:
    limits, fills = model.limits, model.fills
    return Rules(
        limits.ttl_ms,
        fills.ttl_ms,
        fills.order,
        limits.batch_users,
        limits.batch_pairs,
        limits.pairs_per_asked,
        limits.pairs_per_second,
        limits.share,
        model.sure,
    )


def _neighbours(model: ModelSetup, clock: JumpingClock, seed: int) -> Neighbours:
    limits = NeighbourLimits(
        items=256, clusters=3, directions=4, fill_ttl_ms=model.fills.ttl_ms, half_life_ms=60_000
    )
    return Neighbours(model.neighbours, DIM, limits, clock, seed, in_thread=False)


def _predictor(model: ModelSetup, seed: int) -> PredictsPairs | None:
    limits = PredictorLimits(
        model.limits.ttl_ms, 1_024, 1_024, least_chance=model.limits.least_chance, seed=seed
    )
    return None if model.predictor == "none" else predictor_of(model.predictor, limits)


def _spec(name: str, model: ModelSetup) -> TableSpec:
    default = np.full(DIM, -1, dtype=np.float32)
    return TableSpec(name, DIM, 1, model.dtype, model.limits.capacity, default, holds="pairs")
