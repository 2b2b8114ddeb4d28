"""How a wait ends: computed, failed, late, refused, cancelled; always with a row and a reason.
And when a failed inference is asked for again: when nothing but the default is left to serve."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from sim.engine import Script, Step
from sim.world import MS, Setup, World, play

from predawn.server.batcher import BatcherLimits
from predawn.server.pipeline_wait import Wait, computed
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.request import Lane, Source, UserId, UserRow

FALLBACK = UserRow(Source.FAILOVER, 500, np.array([9, 9], dtype=np.float32), 4)
AGES = Ages(direct_ttl_ms=1_000, failover_ttl_ms=10_000)
TWO = {name: ModelPolicy(Mode.ERCACHE, Ages(0, 10)) for name in ("m", "n")}


async def wait_for_both(world: World, m_ms: float, n_ms: float) -> dict[str, UserRow]:
    now_ns = world.clock.monotonic_ns()
    waits = {"m": Wait(now_ns + round(m_ms * MS)), "n": Wait(now_ns + round(n_ms * MS))}
    rows = {"m": FALLBACK, "n": FALLBACK, "other": FALLBACK}
    await computed(world.batcher, world.clock, world.metrics, 1, waits, rows)
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


# Asking again


def failing(*numbers: int, latency_s: float = 0.005, row: bool = False) -> Script:
    """These calls fail (all of them when none is named), as a whole or in their first row."""

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        if numbers and number not in numbers:
            return Step(latency_s)
        return Step(latency_s, bad_rows=(0,)) if row else Step(latency_s, error="broken")

    return script


def one(mode: Mode = Mode.ERCACHE, wait_ms: int = 30, retries: int = 1) -> dict[str, ModelPolicy]:
    return {"m": ModelPolicy(mode, AGES, wait_ms, retries=retries)}


async def old_row(world: World) -> None:
    """A row that user 1 can fail over to."""
    world.cache.land("m", [1], np.array([[5, 77]], dtype=np.float32), 3)
    await asyncio.sleep(2)


def retries_of(world: World) -> int:
    return world.metrics.models["m"].retries


@pytest.mark.parametrize("mode", [Mode.ERCACHE, Mode.REALTIME])
@pytest.mark.parametrize("row", [False, True])
def test_a_failed_inference_is_repeated_where_only_the_default_is_left(
    mode: Mode, row: bool
) -> None:
    async def use(world: World) -> None:
        reply = await world.ask(1)
        assert (reply.users["m"].source, reply.users["m"].reason) == (Source.COMPUTED, "")
        assert reply.users["m"].row[1] == 1
        assert not reply.degraded

    world = play(Setup(one(mode), failing(0, row=row)), use)
    assert [call.users for call in world.engine.calls] == [(1,), (1,)]
    counts = world.metrics.models["m"]
    assert (counts.retries, counts.computed(), counts.fallbacks) == (1, 2, 0)


def test_a_request_with_a_failover_row_is_served_it_at_once() -> None:
    async def use(world: World) -> None:
        await old_row(world)
        began_ns = world.clock.monotonic_ns()
        row = (await world.ask(1)).users["m"]
        assert (row.source, row.reason) == (Source.FAILOVER, "failed: broken")
        assert world.clock.monotonic_ns() - began_ns == pytest.approx(6 * MS, rel=1e-2)
        await asyncio.sleep(1)

    world = play(Setup(one(retries=3), failing(0)), use)
    assert (len(world.engine.calls), retries_of(world)) == (1, 0)


def test_realtime_may_not_serve_what_is_stored_and_so_asks_again() -> None:
    async def use(world: World) -> None:
        await old_row(world)
        assert (await world.ask(1)).users["m"].source is Source.COMPUTED

    assert retries_of(play(Setup(one(Mode.REALTIME), failing(0)), use)) == 1


@pytest.mark.parametrize("retries", [0, 1, 2, 3])
def test_it_is_repeated_no_more_often_than_configured_and_0_never(retries: int) -> None:
    async def use(world: World) -> None:
        reply = await world.ask(1)
        assert reply.users["m"].source is Source.DEFAULT
        assert reply.users["m"].reason == "failed: broken"
        assert reply.degraded
        await asyncio.sleep(1)

    world = play(Setup(one(retries=retries), failing()), use)
    assert (len(world.engine.calls), retries_of(world)) == (1 + retries, retries)


def test_a_wait_that_ran_out_is_not_repeated() -> None:
    async def use(world: World) -> None:
        assert (await world.ask(1)).users["m"].reason == "timeout"
        await asyncio.sleep(1)

    world = play(Setup(one(retries=3), failing(latency_s=0.2)), use)
    assert (len(world.engine.calls), retries_of(world)) == (1, 0)


def test_a_refusal_is_not_repeated() -> None:
    async def use(world: World) -> None:
        first = asyncio.ensure_future(world.ask(1))
        await asyncio.sleep(0)
        assert (await world.ask(2)).users["m"].reason == "overloaded"
        await first

    limits = BatcherLimits(wait_queue_limit=1)
    assert retries_of(play(Setup(one(retries=3), limits=limits), use)) == 0


def test_repeats_end_at_the_instant_of_the_wait() -> None:
    async def use(world: World) -> None:
        began_ns = world.clock.monotonic_ns()
        row = (await world.ask(1)).users["m"]
        assert (row.source, row.reason) == (Source.DEFAULT, "timeout")
        assert world.clock.monotonic_ns() - began_ns == pytest.approx(30 * MS, rel=1e-3)

    world = play(Setup(one(retries=3), failing(latency_s=0.02)), use)
    assert (len(world.engine.calls), retries_of(world)) == (2, 1)


class LateClock:
    """The loop's time, and `lag_ns` on top once the loop has been held up."""

    def __init__(self, world: World) -> None:
        self._clock = world.clock
        self.lag_ns = 0

    def monotonic_ns(self) -> int:
        return self._clock.monotonic_ns() + self.lag_ns

    def wall_ms(self) -> int:
        return self._clock.wall_ms()


def test_a_failure_seen_only_after_the_instant_of_the_wait_is_not_repeated() -> None:
    async def use(world: World) -> None:
        clock, rows = LateClock(world), {"m": FALLBACK}
        waits = {"m": Wait(clock.monotonic_ns() + 30 * MS, retries=3)}
        asking = computed(world.batcher, clock, world.metrics, 1, waits, rows)
        waiting = asyncio.ensure_future(asking)
        await asyncio.sleep(0.003)
        clock.lag_ns = 27 * MS
        await waiting
        assert rows["m"].reason == "failed: broken"

    world = play(Setup(one(), failing()), use)
    assert (len(world.engine.calls), retries_of(world)) == (1, 0)


def test_those_who_failed_together_ask_again_together() -> None:
    async def use(world: World) -> None:
        replies = await asyncio.gather(*(world.ask(1) for _ in range(3)))
        assert {reply.users["m"].source for reply in replies} == {Source.COMPUTED}

    world = play(Setup(one(), failing(0)), use)
    assert [call.users for call in world.engine.calls] == [(1,), (1,)]
    assert (retries_of(world), world.metrics.models["m"].coalesced) == (3, 4)


def test_a_model_that_failed_is_repeated_while_another_is_still_waited_for() -> None:
    async def use(world: World) -> None:
        due_ns = world.clock.monotonic_ns() + 50 * MS
        first = world.batcher.submit("m", 1, Lane.WAIT, due_ns)
        await asyncio.sleep(0.003)
        waits, rows = {name: Wait(due_ns, 1) for name in ("n", "m")}, {"n": FALLBACK, "m": FALLBACK}
        await computed(world.batcher, world.clock, world.metrics, 1, waits, rows)
        assert {row.source for row in rows.values()} == {Source.COMPUTED}
        first.cancel()

    _, n, m = play(Setup(TWO, failing(0)), use).engine.calls
    assert (n.model, m.model) == ("n", "m")
    assert m.began_ns == n.ended_ns
