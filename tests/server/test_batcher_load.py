"""The batcher in virtual time: full lanes, a hung engine, the share, invalidations, the end."""

import asyncio
import gc
import logging
from collections.abc import Sequence

import pytest
from sim.engine import Step
from sim.rig import MS, REFRESH, WAIT, Rig, outcome, play

from predawn.server.batcher import BatcherLimits
from predawn.server.errors import InferenceError, Overloaded, Unavailable
from predawn.server.request import Lane, UserId


@pytest.mark.parametrize("lane", [WAIT, REFRESH])
def test_a_full_lane_refuses_new_keys_at_once_and_still_lets_callers_join(lane: Lane) -> None:
    async def use(rig: Rig) -> None:
        callers = [rig.ask(user, lane) for user in range(3)]
        with pytest.raises(Overloaded, match=f"{lane.name.lower()} queue is full") as refused:
            rig.ask(99, lane)
        assert 0.02 < refused.value.retry_after_s < 1
        callers.append(rig.ask(2, lane))
        other = rig.ask(50, REFRESH if lane is WAIT else WAIT)
        await asyncio.wait([*callers, other])
        assert await outcome(rig.ask(99, lane)) == 99

    play(use, BatcherLimits(wait_queue_limit=3, refresh_queue_limit=3))


def test_a_full_wait_lane_refuses_to_lift_a_refresh_and_leaves_it_queued() -> None:
    async def use(rig: Rig) -> None:
        refresh, wait = rig.ask(1, REFRESH), rig.ask(2)
        with pytest.raises(Overloaded):
            rig.ask(1)
        assert [await outcome(refresh), await outcome(wait)] == [1, 2]

    play(use, BatcherLimits(wait_queue_limit=1))


def test_callers_who_gave_up_make_room_in_a_full_lane() -> None:
    async def use(rig: Rig) -> None:
        rig.ask(1).cancel()
        await asyncio.sleep(0)
        assert await outcome(rig.ask(2)) == 2

    play(use, BatcherLimits(wait_queue_limit=1))


def test_a_hung_engine_refuses_at_once_in_both_lanes_and_recovers_when_it_returns() -> None:
    async def use(rig: Rig) -> None:
        hung = rig.ask(1)
        await asyncio.sleep(0.05)
        queued = rig.ask(2)
        await asyncio.sleep(0.07)
        for lane in (WAIT, REFRESH):
            for user in (1, 2, 3):
                with pytest.raises(Overloaded, match=r"engine busy for 11. ms"):
                    rig.ask(user, lane)
        assert [await outcome(hung), await outcome(queued)] == [1, 2]
        assert await outcome(rig.ask(3)) == 3

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(latency_s=10 if number == 0 else 0.005)

    rig = play(use, BatcherLimits(hang_after_ms=100), script)
    assert [users for _, users, _ in rig.batches()] == [(1,), (2,), (3,)]


def test_a_lost_engine_refuses_at_once_and_is_tried_again_by_one_batch_at_a_time() -> None:
    async def use(rig: Rig) -> None:
        with pytest.raises(InferenceError, match="killed"):
            await rig.ask(1)
        for _ in range(3):
            for lane in (WAIT, REFRESH):
                with pytest.raises(Overloaded, match="engine lost"):
                    rig.ask(2, lane)
            await asyncio.sleep(0.26)
            tried = [rig.ask(user) for user in (3, 4)]
            await asyncio.wait(tried)
        assert [await outcome(each) for each in tried] == [3, 4]

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(0.001, "killed" if number < 3 else "", lost=True)

    rig = play(use, script=script)
    assert [users for _, users, _ in rig.batches()] == [(1,), (3, 4), (3, 4), (3, 4)]


def test_the_background_keeps_to_its_share_and_waits_go_on_meanwhile() -> None:
    async def use(rig: Rig) -> None:
        refreshes = [rig.ask(user, REFRESH) for user in range(400)]
        await asyncio.sleep(1)
        started = rig.clock.monotonic_ns()
        assert await outcome(rig.ask(9_999)) == 999
        assert rig.clock.monotonic_ns() - started <= (20 + 1 + 20 + 1) * MS
        await asyncio.wait(refreshes)

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(latency_s=0.02)

    rig = play(use, BatcherLimits(batch_limit=4, background_share=0.25), script)
    ended_s = rig.engine.calls[-1].ended_ns / 1e9
    assert 2.0 / 0.25 - 0.5 <= ended_s <= 2.0 / 0.25 + 0.1
    busy_ns = 0
    for call in rig.engine.calls:
        if 9_999 in call.users:
            continue
        assert busy_ns <= 0.25 * call.began_ns + 100 * MS
        busy_ns += call.ended_ns - call.began_ns


def test_a_hung_refresh_does_not_silence_the_background_for_long() -> None:
    async def use(rig: Rig) -> None:
        assert await outcome(rig.ask(1, REFRESH)) == 1
        began_ns = rig.clock.monotonic_ns()
        assert await outcome(rig.ask(2, REFRESH)) == 2
        assert rig.clock.monotonic_ns() - began_ns < 300 * MS

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(latency_s=30 if number == 0 else 0.005)

    play(use, BatcherLimits(hang_after_ms=100, background_share=0.5), script)


def test_an_invalidation_during_a_computation_wins_and_those_who_wait_get_a_new_one() -> None:
    async def use(rig: Rig) -> None:
        wait, other = rig.ask(1), rig.ask(2)
        await asyncio.sleep(0.003)
        rig.batcher.invalidated("m", [1, 99])
        joined = rig.ask(1)
        snapshots = [(await caller)[1] for caller in (other, wait, joined)]
        assert snapshots == [0, 1, 1]
        assert rig.landed == [("m", [2], 0), ("m", [1], 1)]

    play(use)


def test_an_invalidated_computation_that_nobody_waits_for_is_dropped() -> None:
    async def use(rig: Rig) -> None:
        wait = rig.ask(1)
        await asyncio.sleep(0.003)
        wait.cancel()
        rig.batcher.invalidated("m", [1])
        await asyncio.sleep(0.1)
        assert (rig.landed, len(rig.batches())) == ([], 1)
        assert await outcome(rig.ask(1)) == 1

    play(use)


def test_an_invalidation_of_a_queued_key_changes_nothing() -> None:
    async def use(rig: Rig) -> None:
        wait = rig.ask(1)
        rig.batcher.invalidated("m", [1])
        assert await outcome(wait) == 1

    assert len(play(use).batches()) == 1


def test_close_fails_what_is_queued_and_running_and_refuses_what_comes_later() -> None:
    async def use(rig: Rig) -> None:
        running = rig.ask(1)
        await asyncio.sleep(0.002)
        queued, refresh, given_up = rig.ask(2), rig.ask(3, REFRESH), rig.ask(4)
        given_up.cancel()
        await rig.batcher.close()
        later = rig.ask(5)
        for caller in (running, queued, refresh, later):
            assert isinstance(await outcome(caller), Unavailable)
        assert rig.landed[-1][0] == "flushed"
        await asyncio.sleep(0.1)

    assert len(play(use).batches()) == 1


def test_a_failure_nobody_collects_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def use(rig: Rig) -> None:
        rig.ask(1)
        rig.ask(2, ms=0)
        await asyncio.sleep(0.1)
        gc.collect()

    with caplog.at_level(logging.ERROR, logger="asyncio"):
        play(use, script=lambda number, model, users: Step(error="broken"))
        gc.collect()
    assert caplog.records == []


def test_retry_hints_follow_the_queue_and_are_spread_by_the_seed() -> None:
    hints: dict[int, list[float]] = {}

    async def use(rig: Rig) -> None:
        await outcome(rig.ask(0))
        for user in range(100):
            rig.ask(user)
        hints[seed] = []
        for _ in range(5):
            with pytest.raises(Overloaded) as refused:
                rig.ask(1_000)
            hints[seed].append(refused.value.retry_after_s)

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(latency_s=0.02)

    for seed in (1, 2):
        play(use, BatcherLimits(wait_queue_limit=100, seed=seed), script)
    assert all(1 <= hint <= 3 for hint in hints[1])
    assert len(set(hints[1])) == 5
    assert hints[1] != hints[2]
