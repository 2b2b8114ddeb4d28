"""How a wait ends: computed, failed, late, refused, cancelled; always with a row and a reason."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from sim.engine import Step
from sim.world import MS, Setup, World, play

from predawn.server.batcher import BatcherLimits
from predawn.server.pipeline_wait import computed
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.request import Source, UserId, UserRow

FALLBACK = UserRow(Source.FAILOVER, 500, np.array([9, 9], dtype=np.float32), 4)
TWO = {name: ModelPolicy(Mode.ERCACHE, Ages(0, 10)) for name in ("m", "n")}


async def wait_for_both(world: World, m_ms: float, n_ms: float) -> dict[str, UserRow]:
    now_ns = world.clock.monotonic_ns()
    due_ns = {"m": now_ns + round(m_ms * MS), "n": now_ns + round(n_ms * MS)}
    rows = {"m": FALLBACK, "n": FALLBACK, "other": FALLBACK}
    await computed(world.batcher, world.clock, 1, due_ns, rows)
    assert rows["other"] is FALLBACK
    return rows


def test_each_model_ends_in_its_own_way() -> None:
    async def use(world: World) -> None:
        rows = await wait_for_both(world, 50, 50)
        assert (rows["m"].source, rows["m"].reason) == (Source.FAILOVER, "failed: broken")
        assert (rows["m"].age_ms, rows["m"].snapshot) == (500, 4)
        assert (rows["n"].source, rows["n"].age_ms, rows["n"].reason) == (Source.COMPUTED, 0, "")

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(error="broken" if model == "m" else "")

    play(Setup(TWO, script), use)


@pytest.mark.parametrize("m_ms", [-1, 0, 3, 8])
def test_a_wait_ends_at_its_instant(m_ms: float) -> None:
    async def use(world: World) -> None:
        began_ns = world.clock.monotonic_ns()
        rows = await wait_for_both(world, m_ms, -1)
        assert {rows[name].reason for name in ("m", "n")} == {"timeout"}
        took_ms = (world.clock.monotonic_ns() - began_ns) / MS
        assert took_ms == pytest.approx(max(0, m_ms), abs=0.01)

    play(Setup(TWO, lambda number, model, users: Step(latency_s=1)), use)


def test_a_refusal_ends_the_wait_at_once_and_the_other_model_is_still_waited_for() -> None:
    async def use(world: World) -> None:
        rows = await wait_for_both(world, 50, 50)
        assert rows["m"].source is Source.COMPUTED
        assert (rows["n"].source, rows["n"].reason) == (Source.FAILOVER, "overloaded")

    play(Setup(TWO, limits=BatcherLimits(wait_queue_limit=1)), use)


def test_a_server_that_shuts_down_says_so() -> None:
    async def use(world: World) -> None:
        waiting = asyncio.ensure_future(wait_for_both(world, 50, 50))
        await asyncio.sleep(0.002)
        await world.batcher.close()
        assert {row.reason for row in (await waiting).values()} == {"shutting down", ""}

    play(Setup(TWO), use)


def test_whatever_ends_the_wait_nobody_is_left_in_the_queue() -> None:
    async def use(world: World) -> None:
        blocking = asyncio.ensure_future(wait_for_both(world, 1_000, 1_000))
        await asyncio.sleep(0.0005)
        late = asyncio.ensure_future(wait_for_both(world, 3, 3))
        cancelled = asyncio.ensure_future(wait_for_both(world, 9_000, 9_000))
        await late
        blocking.cancel()
        cancelled.cancel()
        await asyncio.wait([blocking, cancelled])
        await asyncio.sleep(0)
        assert world.batcher.depths()["wait"] == 0

    play(Setup(TWO, lambda number, model, users: Step(latency_s=0.5)), use)
