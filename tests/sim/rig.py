"""A batcher alone with a scripted engine, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sim.engine import Script, ScriptedEngine, steady

from predawn.server.batcher import Batcher, BatcherLimits
from predawn.server.batcher_queue import Caller
from predawn.server.metrics import Metrics
from predawn.server.request import F32, Lane, UserId
from predawn.server.simloop import LoopClock, SimLoop, simulate

MS = 1_000_000
WAIT, REFRESH = Lane.WAIT, Lane.REFRESH


def unchanged(model: str, users: Sequence[UserId], raw: F32, snapshot: int) -> F32:
    return raw


class Rig:
    """A batcher over a scripted engine; what it lands is kept in `landed`."""

    def __init__(self, clock: LoopClock, limits: BatcherLimits, script: Script) -> None:
        self.clock = clock
        self.engine = ScriptedEngine(clock, script)
        self.metrics = Metrics(["m", "n"], [])
        self.landed: list[tuple[str, list[UserId], int]] = []
        self.landing: Callable[[str, Sequence[UserId], F32, int], F32] = unchanged
        self.batcher = Batcher(self.engine, self.land, self.flushed, clock, limits, self.metrics)

    def land(self, model: str, users: Sequence[UserId], raw: F32, snapshot: int) -> F32:
        served = self.landing(model, users, raw, snapshot)
        self.landed.append((model, list(users), snapshot))
        return served

    async def flushed(self) -> None:
        self.landed.append(("flushed", [], 0))

    def ask(self, user: UserId, lane: Lane = WAIT, ms: float = 1e6, model: str = "m") -> Caller:
        due_ns = self.clock.monotonic_ns() + round(ms * MS)
        return self.batcher.submit(model, user, lane, due_ns)

    def batches(self) -> list[tuple[str, tuple[UserId, ...], float]]:
        return [(call.model, call.users, call.began_ns / MS) for call in self.engine.calls]


def play(
    use: Callable[[Rig], Awaitable[None]],
    limits: BatcherLimits | None = None,
    script: Script = steady,
) -> Rig:
    """Runs `use` beside the batcher's task, then closes it."""
    loop = SimLoop()
    rigs: list[Rig] = []

    async def main() -> None:
        rig = Rig(LoopClock(loop), limits or BatcherLimits(), script)
        rigs.append(rig)
        runner = asyncio.create_task(rig.batcher.run())
        await use(rig)
        await rig.batcher.close()
        runner.cancel()
        await asyncio.wait([runner])

    simulate(main(), loop)
    return rigs[0]


async def outcome(caller: Caller) -> Any:
    """The user's number as served, or the error."""
    try:
        row, snapshot = await caller
    except Exception as error:
        return error
    assert row[1] == snapshot
    return int(row[0])
