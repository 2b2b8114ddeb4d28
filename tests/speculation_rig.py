"""The speculator over a scripted engine and the real store, in virtual time; pair models "m" and
"n"."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from sim.engine import PAIR_DIM, Script, ScriptedEngine, steady

from predawn.server.batcher_share import ShareAccount
from predawn.server.cache_place import TableSpec
from predawn.server.engine import EmbedsPairs
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import PairCache
from predawn.server.request import F32, PairRows, RankRequest, Source, UserId
from predawn.server.simloop import LoopClock, SimLoop, simulate
from predawn.server.speculation.assembly import EngineTime, speculator_of
from predawn.server.speculation.contract import PredictsPairs
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.speculator import Speculator

MS = 1_000_000
TTL_MS = 1_000
LIMITS = PairLimits(TTL_MS, queue_limit=100, batch_users=2, batch_pairs=10, least_chance=0)


class MovableClock(LoopClock):
    """Its wall clock can be set."""

    moved_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.moved_ms


class Rig:
    """predictors: by model; the others have their missed pairs computed."""

    def __init__(
        self,
        loop: SimLoop,
        limits: PairLimits = LIMITS,
        script: Script = steady,
        predictors: Mapping[str, PredictsPairs] | None = None,
        engine: EmbedsPairs | None = None,
        share: float = 0.5,
        capacity: int = 4096,
    ) -> None:
        self.clock = MovableClock(loop, start_wall_ms=1_700_000_000_000)
        self.engine = ScriptedEngine(self.clock, script)
        self.metrics = Metrics([], [], ["m", "n"])
        self.limits = replace(limits, capacity=capacity)
        nothing = np.zeros(PAIR_DIM, dtype=np.float32)
        specs = [
            TableSpec(name, PAIR_DIM, 1, "fp32", capacity, nothing, holds="pairs") for name in "mn"
        ]
        self.cache = PairCache(specs, self.clock, bytes(32))
        self.share = ShareAccount(share, 0)
        self.speculator: Speculator = speculator_of(
            {"m": self.limits, "n": self.limits},
            predictors or {},
            engine or self.engine,
            self.cache,
            EngineTime(self.share, share, hang_after_ms=500),
            self.clock,
            self.metrics,
        )

    def ask(
        self,
        user: UserId,
        items: Sequence[int],
        model: str = "m",
        scores: F32 | None = None,
    ) -> PairRows:
        """One request and what follows its reply."""
        hashes = np.array(items, dtype=np.uint64)
        nothing: F32 = np.zeros((len(items), 0), dtype=np.float32)
        request = RankRequest(user, hashes, nothing, "", 0, 0)
        reading = self.cache.read(model, user, hashes, self.limits.ttl_ms)
        counts = np.bincount(reading.sources, minlength=len(Source)).tolist()
        rows = PairRows(reading.rows, reading.sources, reading.ages_ms, counts)
        scores = np.arange(len(items), 0, -1, dtype=np.float32) if scores is None else scores
        self.speculator.asked(model, request, rows, scores, None)
        return rows

    def kept(self, user: UserId, items: Sequence[int], model: str = "m") -> list[int]:
        """The call that computed each pair as it is read now, -1: none."""
        hashes = np.array(items, dtype=np.uint64)
        reading = self.cache.read(model, user, hashes, self.limits.ttl_ms)
        found = zip(reading.rows.tolist(), reading.sources.tolist(), items, strict=True)
        calls: list[int] = []
        for row, source, item in found:
            assert source != Source.DIRECT or row[1] == item
            calls.append(int(row[2]) if source == Source.DIRECT else -1)
        return calls

    def batches(self) -> list[tuple[str, tuple[UserId, ...], tuple[int, ...]]]:
        """What the engine was given: model, users and items of the rows."""
        return [(call.model, call.users, call.items) for call in self.engine.pair_calls]

    def ends(self, model: str = "m") -> dict[str, int]:
        """How missed pairs ended."""
        return {name: count for name, count in self.metrics.pairs[model].missed.items() if count}

    def proposed(self, model: str = "m") -> dict[str, int]:
        """How proposed pairs ended."""
        ends = self.metrics.pairs[model].proposed
        return {name: count for name, count in ends.items() if count}

    def check(self) -> None:
        """The invariants of store and ledgers."""
        assert self.cache.check() == []
        for model in self.speculator.models.values():
            assert model.planner.ledger.check() == []


def play(
    use: Callable[[Rig], Awaitable[None]],
    script: Script = steady,
    limits: PairLimits = LIMITS,
    **more: object,
) -> Rig:
    """Runs `use` beside the task, then stops it."""
    loop = SimLoop()
    rig = Rig(loop, limits, script, **more)  # type: ignore[arg-type]

    async def main() -> None:
        task = asyncio.create_task(rig.speculator.run())
        await use(rig)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()
        rig.check()

    simulate(main(), loop)
    return rig
