"""The timer calls at its time, once, and the last armed time wins."""

import asyncio

import uvloop

from predawn.bench.timer import Timer
from predawn.server.clock import SystemClock


def _fired(delays_ms: list[float]) -> list[int]:
    """Arms once per delay, one after the other without waiting; ns late at each call."""
    clock = SystemClock()
    late: list[int] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        due = 0

        def call() -> None:
            late.append(clock.monotonic_ns() - due)
            done.set()

        timer = Timer(loop, call)
        for delay_ms in delays_ms:
            due = clock.monotonic_ns() + round(delay_ms * 1e6)
            timer.arm(due)
        await done.wait()
        timer.close()
        timer.close()

    uvloop.run(run())
    return late


def test_calls_once_and_not_early() -> None:
    late = _fired([3.0])
    assert len(late) == 1 and late[0] >= 0


def test_a_time_that_has_passed_is_due_at_once() -> None:
    assert len(_fired([-5.0])) == 1


def test_a_new_time_replaces_the_old_one() -> None:
    late = _fired([60_000.0, 2.0])
    assert len(late) == 1 and late[0] >= 0
