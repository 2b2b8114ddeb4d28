"""Missed pairs are computed behind the requests: order, engine time, failures, stops."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from sim.engine import Step
from speculation_rig import LIMITS, MS, Rig, play

from predawn.server.batcher_share import BURST_NS
from predawn.server.engine import Computed
from predawn.server.request import UserId, UserItems
from predawn.server.simloop import SimLoop, simulate


def test_a_missed_pair_is_computed_and_found_by_the_next_request() -> None:
    async def use(rig: Rig) -> None:
        rig.ask(7, [1, 2])
        rig.ask("7", [1])
        assert rig.kept(7, [1, 2]) == [-1, -1]
        assert rig.speculator.waiting() == {"m": 3, "n": 0}
        await asyncio.sleep(0.1)
        assert rig.kept(7, [1, 2, 3]) == [0, 0, -1]
        assert rig.kept("7", [1, 2]) == [0, -1]

    rig = play(use)
    assert rig.batches() == [("m", ("7", 7, 7), (1, 1, 2))]
    assert rig.ends() == {"ok": 3}


def test_who_asked_last_goes_first_a_few_users_at_a_time_and_models_take_turns() -> None:
    async def use(rig: Rig) -> None:
        for user in (1, 2, 3, 4):
            rig.ask(user, [user])
        rig.ask(9, [9], "n")
        rig.ask(2, [5])
        await asyncio.sleep(0.1)

    assert play(use).batches() == [
        ("m", (2, 2, 4), (5, 2, 4)),
        ("n", (9,), (9,)),
        ("m", (3, 1), (3, 1)),
    ]


def test_a_pair_that_waits_or_runs_is_not_computed_twice() -> None:
    async def use(rig: Rig) -> None:
        rig.ask(1, [1, 2])
        rig.ask(1, [2, 3])
        await asyncio.sleep(0.002)  # running
        rig.ask(1, [1, 4])
        rig.ask(2, [1])
        await asyncio.sleep(0.1)

    rig = play(use)
    assert rig.batches() == [("m", (1, 1, 1), (2, 3, 1)), ("m", (2, 1), (1, 4))]
    assert rig.ends() == {"ok": 5, "coalesced": 2}


def test_a_full_queue_drops_who_asked_longest_ago() -> None:
    async def use(rig: Rig) -> None:
        for user in range(15):
            rig.ask(user, range(10))
        assert rig.speculator.waiting()["m"] == 100

    assert play(use).ends() == {"full": 50}


def test_what_waited_longer_than_it_would_last_is_dropped() -> None:
    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(latency_s=2 if number == 0 else 0.001)

    async def use(rig: Rig) -> None:
        rig.ask(1, [1])
        await asyncio.sleep(0.1)
        rig.ask(2, [2])
        await asyncio.sleep(1.5)
        rig.ask(3, [3])
        await asyncio.sleep(2)

    rig = play(use, script)
    assert rig.batches() == [("m", (1,), (1,)), ("m", (3,), (3,))]
    assert rig.ends() == {"ok": 2, "stale": 1}


def test_a_failed_batch_costs_its_own_pairs_and_a_bad_row_itself() -> None:
    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(error="broken") if number == 0 else Step(bad_rows=(1,))

    async def use(rig: Rig) -> None:
        rig.ask(1, [1, 2])
        await asyncio.sleep(0.1)
        rig.ask(1, [1, 2, 3])
        await asyncio.sleep(0.1)
        assert rig.kept(1, [1, 2, 3]) == [1, -1, 1]

    assert play(use, script).ends() == {"failed": 2, "invalid": 1, "ok": 2}


def test_an_engine_that_hangs_is_waited_for_without_end_and_the_queue_stays_bounded() -> None:
    async def use(rig: Rig) -> None:
        for second in range(100):
            rig.ask(second, range(10))
            await asyncio.sleep(1)
        assert rig.speculator.waiting()["m"] <= LIMITS.queue_limit

    rig = play(use, lambda number, model, users: Step(latency_s=1e9))
    assert len(rig.batches()) == 1


def test_after_a_hang_the_work_goes_on() -> None:
    async def use(rig: Rig) -> None:
        rig.ask(1, [1])
        await asyncio.sleep(61)
        rig.ask(2, [1])
        await asyncio.sleep(1)
        assert rig.kept(2, [1]) == [1]

    play(use, lambda number, model, users: Step(latency_s=60 if number == 0 else 0.001))


def test_work_stays_within_the_share_that_is_left() -> None:
    async def use(rig: Rig) -> None:
        for step in range(2_000):
            rig.ask(step % 50, [step])
            if step == 1_000:  # refreshes take all they may for a while
                rig.share.spend(2_000 * MS)
            await asyncio.sleep(0.005)

    rig = play(use, lambda number, model, users: Step(latency_s=0.02))
    used_ns = 0
    for call in rig.engine.pair_calls:
        before_ns = used_ns + (2_000 * MS if call.began_ns > 5_000 * MS else 0)
        assert before_ns <= 0.5 * call.began_ns + BURST_NS
        used_ns += call.ended_ns - call.began_ns
    assert used_ns > 0.25 * rig.clock.monotonic_ns()


def test_what_was_running_when_its_user_was_invalidated_is_not_kept() -> None:
    async def use(rig: Rig) -> None:
        rig.ask(1, [1, 2])
        rig.ask(2, [1])
        await asyncio.sleep(0.002)
        rig.cache.invalidate([1], None)
        await asyncio.sleep(0.1)
        assert (rig.kept(1, [1, 2]), rig.kept(2, [1])) == ([-1, -1], [0])
        rig.ask(1, [1])
        await asyncio.sleep(0.1)
        assert rig.kept(1, [1, 2]) == [1, -1]

    assert play(use).ends() == {"ok": 2, "void": 2}


@pytest.mark.parametrize("yields", range(4))
def test_a_stop_loses_nothing_that_the_engine_had_returned(yields: int) -> None:
    """Cancelled in any of the steps around the one in which the result arrives."""

    class Immediate:
        returned = False

        async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
            await asyncio.sleep(0)
            self.returned = True
            rows = np.array([[0, 1, 0]], dtype=np.float32)
            return Computed(rows, np.ones(1, dtype=np.bool_), 0, 1)

    loop, engine = SimLoop(), Immediate()
    rig = Rig(loop, engine=engine)

    async def main() -> None:
        task = asyncio.create_task(rig.speculator.run())
        rig.ask(7, [1])
        for _ in range(yields):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert rig.kept(7, [1]) == ([0] if engine.returned else [-1])

    simulate(main(), loop)


def test_an_engine_that_closes_ends_the_batch_and_not_the_task() -> None:
    class Closed:
        async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
            raise asyncio.CancelledError

    loop = SimLoop()
    rig = Rig(loop, engine=Closed())

    async def main() -> None:
        task = asyncio.create_task(rig.speculator.run())
        rig.ask(7, [1])
        await asyncio.sleep(1)
        assert not task.done()
        task.cancel()

    simulate(main(), loop)
    assert rig.ends() == {"failed": 1}
