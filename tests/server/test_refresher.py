"""What happens behind the requests: refreshes, hints, sweeps."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from sim.engine import Step
from sim.world import MS, Setup, World, play

from predawn.server.batcher import BatcherLimits
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.request import Lane, UserId

AGES = Ages(direct_ttl_ms=1_000, failover_ttl_ms=10_000)


def setup(mode: Mode = Mode.SOAP, batch_every_ms: int = 60_000, **rest: object) -> Setup:
    policy = ModelPolicy(mode, AGES, batch_every_ms=batch_every_ms)
    return Setup({"m": policy}, **rest)  # type: ignore[arg-type]


def computed(world: World) -> list[UserId]:
    """Every user put through the engine, in order."""
    return [user for call in world.engine.calls for user in call.users]


def outcomes(world: World) -> dict[str, int]:
    return {name: n for name, n in world.metrics.models["m"].refreshes.items() if n}


def test_scheduled_users_are_computed_once_however_often_they_are_asked_for() -> None:
    async def use(world: World) -> None:
        assert world.refresher.schedule("m", [1, 2]) == 2
        assert world.refresher.schedule("m", [2, "2"]) == 1
        assert world.refresher.pending == 3
        await asyncio.sleep(0.1)
        assert world.refresher.pending == 0
        assert world.refresher.schedule("m", [2]) == 1
        await asyncio.sleep(0.1)

    world = play(setup(), use)
    assert computed(world) == [1, 2, "2", 2]
    assert outcomes(world) == {"ok": 4, "coalesced": 1}


def test_refused_refreshes_are_shed_and_counted_and_never_raised() -> None:
    async def use(world: World) -> None:
        assert world.refresher.schedule("m", list(range(10))) == 4
        await asyncio.sleep(0.1)

    world = play(setup(limits=BatcherLimits(refresh_queue_limit=4)), use)
    assert computed(world) == [0, 1, 2, 3]
    assert outcomes(world) == {"ok": 4, "shed": 6}


def test_a_failed_refresh_is_counted_and_may_be_asked_for_again() -> None:
    async def use(world: World) -> None:
        for _ in range(2):
            assert world.refresher.schedule("m", [1]) == 1
            await asyncio.sleep(0.1)

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(error="" if number else "broken")

    assert outcomes(play(setup(script=script), use)) == {"ok": 1, "failed": 1}


def test_refreshes_under_way_when_the_server_ends_count_as_shed() -> None:
    async def use(world: World) -> None:
        world.refresher.schedule("m", [1, 2])

    assert outcomes(play(setup(), use)) == {"shed": 2}


@pytest.mark.parametrize(
    ("mode", "age_ms", "started"),
    [
        (Mode.SOAP, None, 1),
        (Mode.SOAP, 1_001, 1),
        (Mode.SOAP, 1_000, 0),
        (Mode.ERCACHE, None, 1),
        (Mode.ERCACHE, 20_000, 1),
        (Mode.ERCACHE, 10, 0),
        (Mode.REALTIME, None, 0),
        (Mode.BATCH, None, 0),
        (Mode.FROZEN, None, 0),
    ],
)
def test_a_hint_starts_what_is_not_fresh_and_will_be_kept(
    mode: Mode, age_ms: int | None, started: int
) -> None:
    async def use(world: World) -> None:
        if age_ms is not None:
            world.cache.land("m", [1], np.zeros((1, 2), dtype=np.float32), 0)
            await asyncio.sleep(age_ms / 1e3)
        assert world.refresher.hint(1) == started
        await asyncio.sleep(0.1)

    assert computed(play(setup(mode), use)) == [1] * started


def test_a_batch_model_is_swept_at_the_start_and_then_every_period() -> None:
    users: list[UserId] = ["a", *range(40)]

    async def use(world: World) -> None:
        await asyncio.sleep(30)
        assert computed(world) == users
        users.append("b")
        await asyncio.sleep(60)
        assert computed(world) == users[:-1] + users
        assert world.cache.read("m", ["b"], 10**6).ages_ms[0] >= 0

    play(setup(Mode.BATCH, users=lambda: users), use)


def test_a_sweep_longer_than_its_period_is_followed_at_once_by_the_next() -> None:
    async def use(world: World) -> None:
        await asyncio.sleep(10)

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(latency_s=0.5)

    limits = BatcherLimits(background_share=1.0, refresh_window_ms=10)
    world = play(
        setup(Mode.BATCH, batch_every_ms=100, users=lambda: [1, 2], script=script, limits=limits),
        use,
    )
    assert len(world.engine.calls) == 20
    assert set(computed(world)) == {1, 2}


def test_a_sweep_keeps_few_refreshes_in_flight_and_lets_those_of_requests_in() -> None:
    depths: list[int] = []

    async def use(world: World) -> None:
        for _ in range(50):
            depths.append(world.batcher.depths()["refresh"])
            await asyncio.sleep(0.01)
        assert world.refresher.schedule("m", ["mine"]) == 1
        await asyncio.sleep(0.2)
        assert "mine" in computed(world)
        assert len(computed(world)) < 1_000

    limits = BatcherLimits(refresh_queue_limit=20, batch_limit=4)
    play(setup(Mode.BATCH, users=lambda: list(range(1_000)), limits=limits, sweep_rows=16), use)
    assert 0 < max(depths) <= 16


def test_a_sweep_waits_out_an_overload_and_misses_nobody() -> None:
    async def use(world: World) -> None:
        world.batcher.submit("m", "hung", Lane.WAIT, 2**62)
        await asyncio.sleep(30)

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(latency_s=5 if number == 0 else 0.005)

    limits = BatcherLimits(refresh_queue_limit=3, hang_after_ms=100)
    users: list[UserId] = list(range(20))
    world = play(setup(Mode.BATCH, users=lambda: users, limits=limits, script=script), use)
    assert computed(world) == ["hung", *users]


def test_a_sweep_goes_on_after_failures() -> None:
    async def use(world: World) -> None:
        await asyncio.sleep(30)

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(error="broken" if number % 2 else "")

    world = play(setup(Mode.BATCH, users=lambda: list(range(64)), script=script), use)
    assert computed(world) == list(range(64))
    assert outcomes(world) == {"ok": 32, "failed": 32}


def test_a_frozen_model_is_swept_once_for_users_without_an_entry() -> None:
    users: list[UserId] = [1, 2, 3]

    async def use(world: World) -> None:
        world.cache.land("m", [2], np.zeros((1, 2), dtype=np.float32), 0)
        await asyncio.sleep(1)
        users.append(4)
        await asyncio.sleep(1_000)

    assert computed(play(setup(Mode.FROZEN, users=lambda: users), use)) == [1, 3]


def test_nothing_to_sweep_ends_the_task_and_schedules_go_on() -> None:
    async def use(world: World) -> None:
        await asyncio.wait_for(world.refresher.run(), 1)
        began_ns = world.clock.monotonic_ns()
        assert world.refresher.schedule("m", [1]) == 1
        await asyncio.sleep(0.1)
        assert computed(world) == [1]
        assert world.clock.monotonic_ns() - began_ns == pytest.approx(100 * MS)

    play(setup(), use)
