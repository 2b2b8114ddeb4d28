"""The batcher in virtual time: single-flight, lanes, deadlines, failures."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from sim.engine import Step, steady, user_number
from sim.rig import REFRESH, WAIT, Rig, outcome, play

from predawn.server.batcher import BatcherLimits
from predawn.server.errors import DeadlineExceeded, InferenceError
from predawn.server.request import F32, UserId
from predawn.server.simloop import LoopClock


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

    assert play(use, BatcherLimits(refresh_window_ms=10)).batches()[0][2] == pytest.approx(
        10, abs=0.01
    )


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
