"""A whole server without sockets and threads, in virtual time: the real caches, batcher, refresher,
missed pairs and pipeline around an engine that follows a script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from sim.engine import DIM, PAIR_DIM, Call, Script, ScriptedEngine, steady

from predawn.server.batcher import Batcher, BatcherLimits
from predawn.server.batcher_queue import Caller
from predawn.server.cache import TableSpec, UserCache
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import PairCache
from predawn.server.pipeline import Pipeline
from predawn.server.pipeline_pairs import PairReader
from predawn.server.pipeline_rank import ServedRanker
from predawn.server.policy import ModelPolicy
from predawn.server.refresher import Refresher
from predawn.server.request import (
    F32,
    U8,
    Lane,
    RankBatch,
    RankReply,
    RankRequest,
    UserId,
    UserItems,
)
from predawn.server.simloop import LoopClock, SimLoop, simulate
from predawn.server.speculation.assembly import EngineTime, speculator_of
from predawn.server.speculation.limits import PairLimits

SEED = bytes(range(32))
MS = 1_000_000
ITEMS = (3, 50, 7, 96, 12)


class EchoRanker:
    """Scores an item by its hash alone and remembers what it was given."""

    tasks: tuple[str, ...] = ("click", "like")
    item_features: tuple[str, ...] = ()

    def __init__(self, inline: bool = True) -> None:
        self.inline = inline
        self.batches: list[RankBatch] = []

    def score(self, batch: RankBatch) -> F32:
        self.batches.append(batch)
        score = (batch.item_hashes % np.uint64(97)).astype(np.float32) / np.float32(97)
        return np.stack([score, 1 - score], axis=1)


@dataclass
class Setup:
    """What a world is made of; every test states only what it is about."""

    policies: Mapping[str, ModelPolicy]
    script: Script = steady
    limits: BatcherLimits = field(default_factory=BatcherLimits)
    average_over: int = 1
    dtype: str = "fp32"
    capacity: int = 4096
    users: Callable[[], Sequence[UserId]] = tuple
    rankers: Mapping[str, tuple[str, ...]] | None = None  # user models; one of all by default
    inline: bool = True
    sweep_rows: int = 16
    pairs: Mapping[str, PairLimits] = field(default_factory=dict[str, PairLimits])


class Watcher:
    """What a checker is told, at the instant it happens."""

    def asked(self, model: str, lane: Lane, due_ns: int) -> None:
        """Somebody is about to ask the batcher for an embedding."""

    def submitted(self, model: str, user: UserId, lane: Lane, due_ns: int, caller: Caller) -> None:
        """Somebody asked the batcher for an embedding, and was not refused."""

    def called(self, call: Call) -> None:
        """A batch begins on the engine."""

    def landed(self, model: str, users: Sequence[UserId], served: F32, snapshot: int) -> None:
        """Rows became readable."""

    def pairs_called(self, call: Call) -> None:
        """A batch of pairs begins on the engine."""

    def pairs_landed(self, model: str, wanted: Sequence[UserItems], snapshot: int) -> None:
        """Pairs became readable."""


class WatchedBatcher(Batcher):
    """The real one, with its callers reported."""

    watcher: Watcher

    def submit(self, model: str, user: UserId, lane: Lane, deadline_ns: int) -> Caller:
        self.watcher.asked(model, lane, deadline_ns)
        caller = super().submit(model, user, lane, deadline_ns)
        self.watcher.submitted(model, user, lane, deadline_ns, caller)
        return caller


class WatchedPairs(PairCache):
    """The real one, with what it lands reported."""

    landed: Callable[[str, Sequence[UserItems], int], None]

    def land(
        self,
        model: str,
        wanted: Sequence[UserItems],
        raw: F32,
        snapshot: int,
        origin: U8 | int = 0,
    ) -> int:
        written = super().land(model, wanted, raw, snapshot, origin)
        self.landed(model, wanted, snapshot)
        return written


class World:
    """See the module. `ask` is one request; default rows are -1 throughout. Every ranker reads all
    pair models."""

    def __init__(self, loop: SimLoop, setup: Setup, watcher: "Watcher | None" = None) -> None:
        names = tuple(setup.policies)
        rankers = setup.rankers or {"ctr": names}
        self.clock = LoopClock(loop, start_wall_ms=1_700_000_000_000)
        self.metrics = Metrics(names, tuple(rankers), tuple(setup.pairs))
        self.engine = ScriptedEngine(self.clock, setup.script)
        specs = [_spec(name, setup) for name in names]
        self.cache = UserCache(specs, self.clock, flush_delay_ms=5, flush_rows=64, seed=SEED)
        self.watcher = watcher or Watcher()
        self.faults: list[Exception] = []
        self.engine.on_call = lambda call: self._tell(self.watcher.called, call)
        self.batcher = WatchedBatcher(
            self.engine,
            self._land,
            self.cache.flushed,
            self.clock,
            setup.limits,
            self.metrics,
        )
        self.batcher.watcher = self.watcher
        self.cache.on_invalidate(self.batcher.invalidated)
        self._add_pairs(setup)
        self.refresher = Refresher(
            self.batcher,
            self.cache,
            setup.policies,
            setup.users,
            self.clock,
            self.metrics,
            setup.sweep_rows,
        )
        self.ranker = EchoRanker(setup.inline)
        served = {
            name: ServedRanker(name, self.ranker, models, pair_models=tuple(setup.pairs))
            for name, models in rankers.items()
        }
        ttls_ms = {name: limits.ttl_ms for name, limits in setup.pairs.items()}
        self.pipeline = Pipeline(
            self.cache,
            PairReader(self.pairs, ttls_ms, self.speculator, self.metrics),
            self.batcher,
            self.refresher.schedule,
            self._off_loop,
            setup.policies,
            served,
            self.clock,
            self.metrics,
        )
        self.off_loop_s = 0.0

    def _add_pairs(self, setup: Setup) -> None:
        """`pairs`, their store, and `speculator`, what computes them."""
        self.pairs = WatchedPairs(
            [_pair_spec(name, setup) for name in setup.pairs], self.clock, SEED
        )
        self.pairs.landed = lambda *what: self._tell(self.watcher.pairs_landed, *what)
        self.engine.on_pair_call = lambda call: self._tell(self.watcher.pairs_called, call)
        share = setup.limits.background_share
        time = EngineTime(self.batcher.share_below(), share, setup.limits.hang_after_ms)
        self.speculator = speculator_of(
            setup.pairs, {}, self.engine, self.pairs, time, self.clock, self.metrics
        )

    def _land(self, model: str, users: Sequence[UserId], raw: F32, snapshot: int) -> F32:
        served = self.cache.land(model, users, raw, snapshot)
        self._tell(self.watcher.landed, model, users, served, snapshot)
        return served

    def _tell(self, hook: Callable[..., None], *what: object) -> None:
        """A watcher's complaint must not pass for a failure of the engine: it is kept."""
        try:
            hook(*what)
        except Exception as fault:
            self.faults.append(fault)

    async def _off_loop(self, ranker: str, batch: RankBatch) -> F32:
        await asyncio.sleep(self.off_loop_s)
        return self.ranker.score(batch)

    def request(
        self,
        user: UserId,
        timeout_ms: float = 50,
        ranker: str = "",
        top_k: int = 0,
        items: Sequence[int] = ITEMS,
    ) -> RankRequest:
        """A request that arrives now."""
        return RankRequest(
            user=user,
            item_hashes=np.array(items, dtype=np.uint64),
            item_features=np.zeros((len(items), 0), dtype=np.float32),
            ranker=ranker,
            deadline_ns=self.clock.monotonic_ns() + round(timeout_ms * MS),
            top_k=top_k,
        )

    async def ask(self, user: UserId, timeout_ms: float = 50, ranker: str = "") -> RankReply:
        """One request and what follows its reply."""
        request = self.request(user, timeout_ms, ranker)
        reply = await self.pipeline.rank(request)
        self.pipeline.after_reply(request, reply)
        return reply

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The tasks of the server, closed in order at the end."""
        tasks = [
            asyncio.create_task(self.batcher.run()),
            asyncio.create_task(self.cache.run()),
            asyncio.create_task(self.refresher.run()),
            asyncio.create_task(self.speculator.run()),
        ]
        try:
            yield
        finally:
            await self.batcher.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert self.cache.check() == self.pairs.check() == []
            if self.faults:
                raise self.faults[0]


def play(setup: Setup, use: Callable[[World], Awaitable[None]], chaos: int | None = None) -> World:
    """Runs `use` in a world of its own and returns the world for inspection."""
    loop = SimLoop(chaos)
    world = World(loop, setup)

    async def main() -> None:
        async with world.running():
            await use(world)

    simulate(main(), loop)
    return world


def _spec(name: str, setup: Setup) -> TableSpec:
    return TableSpec(
        model=name,
        dim=DIM,
        average_over=setup.average_over,
        dtype=setup.dtype,
        capacity=setup.capacity,
        default=np.full(DIM, -1, dtype=np.float32),
        failover_ttl_ms=setup.policies[name].ages.failover_ttl_ms,
    )


def _pair_spec(name: str, setup: Setup) -> TableSpec:
    default = np.full(PAIR_DIM, -1, dtype=np.float32)
    return TableSpec(name, PAIR_DIM, 1, setup.dtype, setup.capacity, default, holds="pairs")
