"""The request path in a world of virtual time: every mode, every failure, every promise."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from sim.engine import Step
from sim.world import MS, Setup, World, play

from predawn.server.batcher import BatcherLimits
from predawn.server.errors import DeadlineExceeded, InferenceError, UnknownName
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.request import Lane, Source, UserId, UserRow

AGES = Ages(direct_ttl_ms=1_000, failover_ttl_ms=10_000)


def policy(mode: Mode, wait_ms: int = 30, ages: Ages = AGES) -> ModelPolicy:
    return ModelPolicy(mode, ages, wait_ms)


def broken(number: int, model: str, users: Sequence[UserId]) -> Step:
    return Step(error="broken")


def slow(number: int, model: str, users: Sequence[UserId]) -> Step:
    return Step(latency_s=0.2)


def row_of(world_reply: dict[str, UserRow]) -> tuple[Source, int, float, str]:
    """Source, age, computation number (-1: the default) and reason of model "m"."""
    row = world_reply["m"]
    return row.source, row.age_ms, float(row.row[1]), row.reason


async def prime(world: World, user: UserId, age_ms: int) -> None:
    """Lands the row of computation 77 for `user` and lets it grow old."""
    world.cache.land("m", [user], np.array([[5, 77]], dtype=np.float32), 3)
    await asyncio.sleep(age_ms / 1e3)


@pytest.mark.parametrize("mode", [Mode.ERCACHE, Mode.SOAP, Mode.BATCH, Mode.FROZEN])
def test_a_fresh_entry_is_served_directly_and_nothing_is_computed(mode: Mode) -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=900)
        reply = await world.ask(1)
        assert row_of(reply.users) == (Source.DIRECT, 900, 77, "")
        assert reply.users["m"].snapshot == 3
        assert not reply.degraded
        await asyncio.sleep(0.1)

    assert play(Setup({"m": policy(mode)}), use).engine.calls == []


def test_ercache_waits_for_what_is_stale_or_absent_and_the_next_request_hits() -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=2_000)
        for user in (1, "new"):
            reply = await world.ask(user)
            assert row_of(reply.users)[:2] == (Source.COMPUTED, 0)
            assert not reply.degraded
            again = await world.ask(user)
            assert row_of(again.users)[0] is Source.DIRECT
            assert again.users["m"].row.tobytes() == reply.users["m"].row.tobytes()

    assert len(play(Setup({"m": policy(Mode.ERCACHE)}), use).engine.calls) == 2


def test_soap_answers_at_once_with_the_previous_row_and_recomputes_behind() -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=2_000)
        before_ns = world.clock.monotonic_ns()
        for user, expected in (
            (1, (Source.STALE, 2_000, 77, "")),
            (2, (Source.DEFAULT, -1, -1, "")),
        ):
            reply = await world.ask(user)
            assert row_of(reply.users) == expected
            assert not reply.degraded
        assert world.clock.monotonic_ns() == before_ns
        await asyncio.sleep(0.1)
        for user in (1, 2):
            assert row_of((await world.ask(user)).users)[0] is Source.DIRECT

    assert [call.users for call in play(Setup({"m": policy(Mode.SOAP)}), use).engine.calls] == [
        (1, 2)
    ]


def test_an_expired_entry_counts_as_absent() -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=10_001)
        assert row_of((await world.ask(1)).users) == (Source.DEFAULT, -1, -1, "")

    play(Setup({"m": policy(Mode.SOAP)}), use)


@pytest.mark.parametrize("mode", [Mode.BATCH, Mode.FROZEN])
def test_batch_and_frozen_serve_what_there_is_and_compute_nothing_for_a_request(mode: Mode) -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=2_000)
        assert row_of((await world.ask(1)).users) == (Source.STALE, 2_000, 77, "")
        assert row_of((await world.ask(2)).users) == (Source.DEFAULT, -1, -1, "")
        await asyncio.sleep(0.1)

    assert play(Setup({"m": policy(mode)}), use).engine.calls == []


def test_realtime_computes_for_every_request_whatever_is_stored() -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=10)
        for number in (0, 1):
            reply = await world.ask(1)
            assert row_of(reply.users) == (Source.COMPUTED, 0, number, "")

    play(Setup({"m": policy(Mode.REALTIME)}), use)


def test_realtime_falls_back_to_the_default_and_not_to_what_is_stored() -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=10)
        reply = await world.ask(1)
        assert row_of(reply.users) == (Source.DEFAULT, -1, -1, "failed: broken")
        assert reply.degraded

    play(Setup({"m": policy(Mode.REALTIME)}, broken), use)


def test_a_failed_inference_is_answered_from_failover_or_default_and_says_why() -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=2_000)
        stale, unknown = await world.ask(1), await world.ask(2)
        source, age_ms, number, reason = row_of(stale.users)
        assert (source, number, reason) == (Source.FAILOVER, 77, "failed: broken")
        assert age_ms == 2_000
        assert row_of(unknown.users) == (Source.DEFAULT, -1, -1, "failed: broken")
        assert stale.degraded and unknown.degraded
        await asyncio.sleep(1)

    world = play(Setup({"m": policy(Mode.ERCACHE)}, broken), use)
    assert [call.users for call in world.engine.calls] == [(1,), (2,), (2,)]
    assert world.metrics.models["m"].fallbacks == 2


def test_a_slow_engine_is_waited_for_up_to_wait_ms_and_its_result_serves_the_next() -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=2_000)
        began_ns = world.clock.monotonic_ns()
        reply = await world.ask(1, timeout_ms=500)
        assert row_of(reply.users) == (Source.FAILOVER, 2_000, 77, "timeout")
        assert world.clock.monotonic_ns() - began_ns == pytest.approx(30 * MS, rel=1e-3)
        await asyncio.sleep(0.3)
        assert row_of((await world.ask(1)).users)[0] is Source.DIRECT

    assert len(play(Setup({"m": policy(Mode.ERCACHE)}, slow), use).engine.calls) == 1


def test_a_wait_ends_before_the_deadline_and_leaves_time_to_rank() -> None:
    async def use(world: World) -> None:
        began_ns = world.clock.monotonic_ns()
        reply = await world.ask(1, timeout_ms=20)
        assert row_of(reply.users)[3] == "timeout"
        assert world.clock.monotonic_ns() - began_ns == pytest.approx(18 * MS, rel=1e-3)

    play(Setup({"m": policy(Mode.ERCACHE, wait_ms=1_000)}, slow), use)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("timeout_ms", [-5, 0, 1])
def test_a_request_that_is_late_on_arrival_is_answered_from_what_there_is(
    mode: Mode, timeout_ms: float
) -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=2_000)
        began_ns = world.clock.monotonic_ns()
        reply = await world.ask(1, timeout_ms)
        assert len(reply.order) == 5
        assert reply.degraded == (mode in (Mode.ERCACHE, Mode.REALTIME))
        assert world.clock.monotonic_ns() - began_ns < MS

    play(Setup({"m": policy(mode)}), use)


def test_a_key_that_was_given_up_is_computed_behind_the_request() -> None:
    async def use(world: World) -> None:
        assert row_of((await world.ask(1, timeout_ms=1)).users)[3] == "timeout"
        await asyncio.sleep(0.1)
        assert row_of((await world.ask(1)).users)[0] is Source.DIRECT

    world = play(Setup({"m": policy(Mode.ERCACHE)}), use)
    assert world.metrics.models["m"].refreshes["ok"] == 1


def test_a_hung_engine_costs_a_request_nothing_once_it_is_known_and_recovery_is_seen() -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=2_000)
        first = await world.ask(9)
        assert row_of(first.users)[3] == "timeout"
        await asyncio.sleep(0.1)
        began_ns = world.clock.monotonic_ns()
        reply = await world.ask(1)
        assert row_of(reply.users)[2:] == (77, "overloaded")
        assert reply.degraded
        assert world.clock.monotonic_ns() == began_ns
        await asyncio.sleep(10)
        assert row_of((await world.ask(1)).users)[0] is Source.COMPUTED

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(latency_s=5 if number == 0 else 0.005)

    play(Setup({"m": policy(Mode.ERCACHE)}, script, BatcherLimits(hang_after_ms=100)), use)


def test_one_inference_serves_all_rankers_and_requests_of_a_user_and_model() -> None:
    async def use(world: World) -> None:
        replies = await asyncio.gather(*(world.ask(1, ranker=name) for name in ("a", "b", "a")))
        assert [row_of(reply.users)[0] for reply in replies] == [Source.COMPUTED] * 3
        for name in ("a", "b"):
            assert row_of((await world.ask(1, ranker=name)).users)[0] is Source.DIRECT

    rankers = {"a": ("m",), "b": ("m",)}
    world = play(Setup({"m": policy(Mode.ERCACHE)}, rankers=rankers), use)
    assert [call.users for call in world.engine.calls] == [(1,)]


def test_a_ranker_reads_its_models_in_its_order_with_their_sources() -> None:
    async def use(world: World) -> None:
        await prime(world, 1, age_ms=2_000)
        reply = await world.ask(1)
        assert list(reply.users) == ["n", "m"]
        batch = world.ranker.batches[-1]
        assert batch.user.tolist() == [[1, 0, 5, 77]]
        assert batch.sources.tolist() == [[Source.COMPUTED, Source.STALE]]
        assert batch.offsets.tolist() == [0, 5]

    policies = {"m": policy(Mode.SOAP), "n": policy(Mode.ERCACHE)}
    play(Setup(policies, rankers={"ctr": ("n", "m")}), use)


def test_two_models_are_waited_for_together_each_up_to_its_own_limit() -> None:
    async def use(world: World) -> None:
        began_ns = world.clock.monotonic_ns()
        reply = await world.ask(1, timeout_ms=1_000)
        assert {name: row.reason for name, row in reply.users.items()} == {
            "m": "timeout",
            "n": "timeout",
        }
        assert world.clock.monotonic_ns() - began_ns == pytest.approx(60 * MS, rel=1e-3)

    policies = {"m": policy(Mode.ERCACHE, wait_ms=60), "n": policy(Mode.REALTIME, wait_ms=20)}
    play(Setup(policies, slow), use)


def test_a_request_that_is_cancelled_leaves_nobody_waiting() -> None:
    async def use(world: World) -> None:
        world.batcher.submit("m", 1, Lane.WAIT, 2**62)
        await asyncio.sleep(0.002)
        request = asyncio.ensure_future(world.ask(2, timeout_ms=10_000))
        await asyncio.sleep(0.001)
        assert world.batcher.depths()["wait"] == 1
        request.cancel()
        await asyncio.wait([request])
        await asyncio.sleep(0)
        assert world.batcher.depths()["wait"] == 0

    play(Setup({"m": policy(Mode.REALTIME, wait_ms=5_000)}, slow), use)


def test_items_are_ordered_by_score_and_cut_to_top_k() -> None:
    async def use(world: World) -> None:
        reply = await world.pipeline.rank(world.request(1, top_k=2))
        assert reply.order.tolist() == [3, 1]
        assert reply.scores.flags.c_contiguous
        assert reply.scores.shape == (5,)
        assert set(reply.stages_ns) == {"lookup", "wait", "rank"}
        assert reply.task_scores is not None and reply.tasks == ("click", "like")
        assert reply.task_scores.shape == (5, 2)
        assert len((await world.ask(1)).order) == 5

    play(Setup({"m": policy(Mode.SOAP)}), use)


def test_an_unknown_ranker_is_named_with_the_nearest() -> None:
    async def use(world: World) -> None:
        with pytest.raises(UnknownName, match=r"ranker: unknown name 'ctrr'; did you mean 'ctr'"):
            await world.ask(1, ranker="ctrr")

    play(Setup({"m": policy(Mode.SOAP)}), use)


def test_a_ranker_off_the_loop_has_until_the_deadline() -> None:
    async def use(world: World) -> None:
        world.off_loop_s = 0.01
        assert (await world.ask(1)).order.tolist() == [3, 1, 4, 2, 0]
        world.off_loop_s = 10
        began_ns = world.clock.monotonic_ns()
        with pytest.raises(DeadlineExceeded, match="'ctr' had no scores by the deadline"):
            await world.ask(1)
        assert world.clock.monotonic_ns() - began_ns == pytest.approx(50 * MS, rel=1e-3)

    play(Setup({"m": policy(Mode.SOAP)}, inline=False), use)


def test_a_ranker_that_fails_is_an_inference_error_and_serves_nothing() -> None:
    async def use(world: World) -> None:
        world.ranker.tasks = ("click",)
        with pytest.raises(InferenceError, match=r"model 'ctr': returned float32 \[5, 2\]"):
            await world.ask(1)

    world = play(Setup({"m": policy(Mode.SOAP)}), use)
    assert sum(world.metrics.models["m"].served) == 0


def test_sources_add_up_to_requests_and_stages_are_timed() -> None:
    async def use(world: World) -> None:
        for user in (1, 2, 1, 3, 1):
            await world.ask(user)
        await asyncio.sleep(0.1)
        await world.ask(1)

    metrics = play(Setup({"m": policy(Mode.SOAP)}), use).metrics
    assert metrics.models["m"].served[Source.DEFAULT] == 5
    assert metrics.models["m"].served[Source.DIRECT] == 1
    assert [metrics.stages[name].count for name in ("lookup", "wait", "rank")] == [6] * 3


def test_an_invalidated_user_is_unknown_to_the_next_request() -> None:
    async def use(world: World) -> None:
        assert row_of((await world.ask(1)).users)[0] is Source.COMPUTED
        waiting = asyncio.ensure_future(world.ask(2))
        await asyncio.sleep(0.003)
        assert world.cache.invalidate([1, 2], None) == 1
        joined = await world.ask(2)
        assert row_of((await waiting).users)[2] == row_of(joined.users)[2] == 2
        assert row_of((await world.ask(1)).users)[0] is Source.COMPUTED

    play(Setup({"m": policy(Mode.ERCACHE)}), use)
