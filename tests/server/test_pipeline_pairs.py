"""Pairs on the request path: a miss is served the default and found by the next request."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from sim.engine import PAIR_DIM, Step
from sim.world import Setup, World, play

from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.request import RankReply, Source, UserId
from predawn.server.speculation.limits import PairLimits

TTL_MS = 1_000
LIMITS = PairLimits(TTL_MS)
POLICIES = {"m": ModelPolicy(Mode.SOAP, Ages(1_000, 10_000))}


def setup(*models: str, script: object = None) -> Setup:
    made = Setup(POLICIES, pairs=dict.fromkeys(models, LIMITS))
    if script is not None:
        made.script = script  # type: ignore[assignment]
    return made


async def ask(world: World, user: UserId, items: Sequence[int]) -> RankReply:
    request = world.request(user, items=items)
    reply = await world.pipeline.rank(request)
    world.pipeline.after_reply(request, reply)
    return reply


def served(reply: RankReply, model: str = "fm") -> list[tuple[Source, int, list[float]]]:
    """Source, age and row of each candidate."""
    rows = reply.pairs[model]
    columns = (rows.sources.tolist(), rows.ages_ms.tolist(), rows.rows.tolist())
    return [(Source(source), age, row) for source, age, row in zip(*columns, strict=True)]


NOTHING = (Source.DEFAULT, -1, [-1.0] * PAIR_DIM)


@pytest.mark.parametrize(("user", "number"), [(7, 7.0), ("7", None)])
def test_a_missed_pair_is_there_for_the_next_request(user: UserId, number: float | None) -> None:
    async def use(world: World) -> None:
        began_ns = world.clock.monotonic_ns()
        assert served(await ask(world, user, [3, 5])) == [NOTHING, NOTHING]
        assert world.clock.monotonic_ns() == began_ns
        await asyncio.sleep(0.105)
        reply = await ask(world, user, [5, 9, 3])
        (first, _, row), second, third = served(reply)
        assert (first, row[1:]) == (Source.DIRECT, [5.0, 0.0])
        assert number in (None, row[0])
        assert second == NOTHING
        assert third[0] is Source.DIRECT
        assert 90 <= third[1] <= 105
        assert reply.pairs["fm"].counts == [2, 0, 0, 0, 0, 0, 1, 0]
        assert not reply.degraded

    play(setup("fm"), use)


def test_a_pair_is_served_up_to_its_ttl_and_then_asked_for_again() -> None:
    async def use(world: World) -> None:
        await ask(world, 1, [3])
        await asyncio.sleep(0.005 + TTL_MS / 1e3 - 0.001)
        assert served(await ask(world, 1, [3]))[0][0] is Source.DIRECT
        await asyncio.sleep(0.01)
        assert served(await ask(world, 1, [3]))[0] == NOTHING
        await asyncio.sleep(0.05)
        assert served(await ask(world, 1, [3]))[0][0] is Source.DIRECT

    assert len(play(setup("fm"), use).engine.pair_calls) == 2


def test_two_pair_models_stand_side_by_side_for_the_ranker_in_its_order() -> None:
    async def use(world: World) -> None:
        await ask(world, 1, [3])
        await asyncio.sleep(0.1)
        world.pairs.invalidate([1], ["fm"])
        await ask(world, 1, [3, 4])
        batch = world.ranker.batches[-1]
        assert batch.pairs.tolist() == [[-1, -1, -1, 1, 3, 1], [-1] * 6]
        direct, default = Source.DIRECT, Source.DEFAULT
        assert batch.pair_sources.tolist() == [[default, direct], [default, default]]
        assert batch.pairs.flags.c_contiguous

    play(setup("fm", "gm"), use)


def test_a_ranker_of_no_pair_model_gets_none_and_asks_for_none() -> None:
    async def use(world: World) -> None:
        reply = await ask(world, 1, [3])
        assert reply.pairs == {}
        assert world.ranker.batches[-1].pairs.shape == (0, 0)

    assert play(setup(), use).engine.pair_calls == []


def test_a_pair_model_that_only_fails_or_hangs_costs_no_request_anything() -> None:
    for step in (Step(error="broken"), Step(latency_s=1e9)):

        def script(number: int, model: str, users: Sequence[UserId], step: Step = step) -> Step:
            return step if model == "fm" else Step()

        async def use(world: World) -> None:
            for _ in range(50):
                began_ns = world.clock.monotonic_ns()
                assert served(await ask(world, 1, [3, 4])) == [NOTHING, NOTHING]
                assert world.clock.monotonic_ns() == began_ns
                await asyncio.sleep(0.1)

        counts = play(setup("fm", script=script), use).metrics.pairs["fm"]
        assert counts.served[Source.DEFAULT] == 100
        assert counts.missed["ok"] == 0


def test_what_was_served_is_counted_after_the_reply() -> None:
    async def use(world: World) -> None:
        for _ in range(3):
            await ask(world, 1, [3, 4])
            await asyncio.sleep(0.1)

    counts = play(setup("fm"), use).metrics.pairs["fm"]
    assert (counts.served[Source.DIRECT], counts.served[Source.DEFAULT]) == (4, 2)
    assert counts.age_ms.count == 4
    assert counts.missed["ok"] == 2
    assert np.isclose(counts.age_ms.quantile(0), 95, rtol=0.1)
