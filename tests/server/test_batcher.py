"""The batcher in virtual time: every rule of its contract, one by one."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sim.engine import Script, ScriptedEngine, Step, steady, user_number

from predawn.server.batcher import Batcher, BatcherLimits
from predawn.server.batcher_queue import Caller
from predawn.server.errors import DeadlineExceeded, InferenceError, Overloaded, Unavailable
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


def test_equal_keys_cost_one_inference_while_queued_and_while_running() -> None:
    async def use(rig: Rig) -> None:
        queued = [rig.ask(7), rig.ask(7), rig.ask(7, REFRESH)]
        await asyncio.sleep(0.003)
        running = rig.ask(7)
        rows = [await outcome(caller) for caller in [*queued, running]]
        assert rows == [7] * 4
        assert await outcome(rig.ask(7)) == 7

    rig = play(use)
    assert [users for _, users, _ in rig.batches()] == [(7,), (7,)]
    assert rig.metrics.models["m"].coalesced == 3


def test_the_same_id_as_integer_and_string_and_for_two_models_are_different_keys() -> None:
    async def use(rig: Rig) -> None:
        callers = [rig.ask(7), rig.ask("7"), rig.ask(7, model="n")]
        rows = [await outcome(caller) for caller in callers]
        assert rows == [7, int(user_number("7")), 7]

    assert [(m, u) for m, u, _ in play(use).batches()] == [("m", (7, "7")), ("n", (7,))]


def test_a_batch_closes_when_full_or_when_its_oldest_entry_has_waited_for_the_window() -> None:
    async def use(rig: Rig) -> None:
        callers = [rig.ask(user) for user in range(5)]
        await asyncio.wait(callers)
        last = rig.ask(9)
        await asyncio.sleep(0.0005)
        joined = rig.ask(10)
        await asyncio.wait([last, joined])

    rig = play(use, BatcherLimits(batch_limit=4, wait_window_ms=2))
    full, rest, company = rig.batches()
    assert [users for _, users, _ in (full, rest, company)] == [(0, 1, 2, 3), (4,), (9, 10)]
    assert [full[2], rest[2], company[2]] == pytest.approx([0, 5, 12], abs=0.01)


def test_lanes_are_strict_and_a_refresh_does_not_overtake_a_wait_that_is_held_for_company() -> None:
    async def use(rig: Rig) -> None:
        refresh = rig.ask(1, REFRESH)
        await asyncio.sleep(0.0095)
        wait = rig.ask(2)
        await asyncio.wait([refresh, wait])

    rig = play(use, BatcherLimits(wait_window_ms=2, refresh_window_ms=10))
    assert [users for _, users, _ in rig.batches()] == [(2,), (1,)]
    assert rig.batches()[0][2] == pytest.approx(11.5, abs=0.01)


def test_a_wait_that_joins_a_queued_refresh_lifts_it() -> None:
    async def use(rig: Rig) -> None:
        refreshes = [rig.ask(user, REFRESH) for user in (1, 2, 3)]
        wait = rig.ask(2)
        assert rig.batcher.depths() == {"wait": 1, "refresh": 2}
        await asyncio.wait([*refreshes, wait])

    rig = play(use)
    assert [users for _, users, _ in rig.batches()] == [(2,), (1, 3)]
    assert rig.metrics.models["m"].inferences[WAIT, "ok"] == 1
    assert rig.metrics.models["m"].inferences[REFRESH, "ok"] == 2


def test_a_lifted_refresh_goes_back_to_its_lane_when_the_wait_is_given_up() -> None:
    async def use(rig: Rig) -> None:
        refresh, wait = rig.ask(1, REFRESH), rig.ask(1)
        wait.cancel()
        await asyncio.sleep(0)
        assert rig.batcher.depths() == {"wait": 0, "refresh": 1}
        assert await outcome(refresh) == 1

    assert play(use).batches()[0][2] == pytest.approx(10, abs=0.01)


def test_a_cancelled_caller_is_forgotten_and_costs_nothing() -> None:
    async def use(rig: Rig) -> None:
        alone, shared, other = rig.ask(1), rig.ask(2), rig.ask(2)
        alone.cancel()
        shared.cancel()
        await asyncio.sleep(0)
        assert rig.batcher.depths()["wait"] == 1
        assert await outcome(other) == 2

    assert [users for _, users, _ in play(use).batches()] == [(2,)]


def test_a_caller_cancelled_just_before_its_batch_forms_is_not_computed() -> None:
    async def use(rig: Rig) -> None:
        rig.ask(1)
        await asyncio.sleep(0.003)
        queued = rig.ask(2)

        def cancelling(model: str, users: Sequence[UserId], raw: F32, snapshot: int) -> F32:
            queued.cancel()  # the next batch is formed before the loop can tell the batcher
            return raw

        rig.landing = cancelling
        await asyncio.sleep(0.1)

    assert [users for _, users, _ in play(use).batches()] == [(1,)]


def test_a_refresh_is_computed_also_when_its_caller_has_gone() -> None:
    async def use(rig: Rig) -> None:
        rig.ask(1, REFRESH).cancel()
        await asyncio.sleep(0.1)
        assert rig.landed == [("m", [1], 0)]

    play(use)


def test_a_running_batch_lands_also_when_every_caller_has_gone() -> None:
    async def use(rig: Rig) -> None:
        caller = rig.ask(1)
        await asyncio.sleep(0.003)
        caller.cancel()
        await asyncio.sleep(0.1)
        assert rig.landed == [("m", [1], 0)]

    play(use)


def test_deadlines_hold_on_arrival_in_the_queue_and_after_the_computation() -> None:
    async def use(rig: Rig) -> None:
        on_arrival = await outcome(rig.ask(1, ms=0))
        running = rig.ask(2)
        await asyncio.sleep(0.003)
        queued, patient = rig.ask(3, ms=2), rig.ask(4)
        in_queue = await outcome(queued)
        assert await outcome(patient) == 4
        late = rig.ask(5, ms=3)
        errors = [on_arrival, in_queue, await outcome(late)]
        assert [type(error) for error in errors] == [DeadlineExceeded] * 3
        assert [str(error) for error in errors] == [
            "the deadline had passed on arrival",
            "the deadline passed in the queue",
            "computed after the deadline",
        ]
        assert await outcome(running) == 2

    rig = play(use, BatcherLimits(wait_window_ms=0))
    assert [users for _, users, _ in rig.batches()] == [(2,), (4,), (5,)]
    assert rig.landed[2] == ("m", [5], 2)


def test_the_late_do_not_spoil_an_entry_for_the_patient() -> None:
    async def use(rig: Rig) -> None:
        running = rig.ask(1)
        await asyncio.sleep(0.002)
        hasty, patient = rig.ask(2, ms=1), rig.ask(2, ms=100)
        await asyncio.wait([running])
        assert isinstance(await outcome(hasty), DeadlineExceeded)
        assert await outcome(patient) == 2

    play(use)


def test_a_failed_batch_fails_its_callers_and_the_next_one_runs() -> None:
    async def use(rig: Rig) -> None:
        failed = [rig.ask(1), rig.ask(2)]
        errors = [await outcome(caller) for caller in failed]
        assert [str(error) for error in errors] == ["model 'm': out of memory"] * 2
        assert all(isinstance(error, InferenceError) for error in errors)
        assert await outcome(rig.ask(1)) == 1

    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(error="out of memory" if number == 0 else "")

    rig = play(use, script=script)
    assert rig.metrics.models["m"].inferences[WAIT, "failed"] == 2
    assert rig.landed[:-1] == [("m", [1], 1)]


def test_a_row_that_is_not_finite_fails_alone_and_is_not_landed() -> None:
    async def use(rig: Rig) -> None:
        callers = [rig.ask(user) for user in (1, 2, 3)]
        good, bad, also_good = [await outcome(caller) for caller in callers]
        assert (good, also_good) == (1, 3)
        assert str(bad) == "model 'm': the embedding is not finite"

    rig = play(use, script=lambda number, model, users: Step(bad_rows=(1,)))
    assert rig.landed[0] == ("m", [1, 3], 0)
    inferences = rig.metrics.models["m"].inferences
    assert (inferences[WAIT, "ok"], inferences[WAIT, "invalid"]) == (2, 1)


def test_an_unexpected_error_of_the_engine_or_the_landing_fails_the_batch_only() -> None:
    async def use(rig: Rig) -> None:
        def broken(model: str, users: Sequence[UserId], raw: F32, snapshot: int) -> F32:
            raise MemoryError("no room")

        working, rig.landing = rig.landing, broken
        error = await outcome(rig.ask(1))
        assert str(error) == "model 'm': MemoryError: no room"
        rig.landing = working
        assert await outcome(rig.ask(1)) == 1

    play(use)


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


def test_it_runs_the_same_on_the_real_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        rig = Rig(LoopClock(loop), BatcherLimits(), steady)
        runner = asyncio.create_task(rig.batcher.run())
        callers = [rig.ask(user) for user in (1, 2, 1)]
        rows = [await asyncio.wait_for(outcome(caller), 5) for caller in callers]
        assert rows == [1, 2, 1]
        assert [users for _, users, _ in rig.batches()] == [(1, 2)]
        await rig.batcher.close()
        await asyncio.wait_for(runner, 5)

    for new_loop in (asyncio.new_event_loop, _uvloop):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def test_served_rows_are_what_landing_returned() -> None:
    async def use(rig: Rig) -> None:
        def halve(model: str, users: Sequence[UserId], raw: F32, snapshot: int) -> F32:
            return raw / np.float32(2)

        rig.landing = halve
        row, _ = await rig.ask(8)
        assert row.tolist() == [4.0, 0.0]

    play(use)
