import asyncio
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.simloop import LoopClock, SimDeadlock, SimLoop, simulate

DAY_S = 86_400.0


def workers(loop: SimLoop, count: int, rounds: int, seed: int) -> list[tuple[float, int, int]]:
    """Trace of `count` tasks that sleep, hand on a queue and contend for a lock."""
    trace: list[tuple[float, int, int]] = []

    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(2)
        lock = asyncio.Lock()

        async def work(number: int) -> None:
            rng = random.Random(seed * 1000 + number)
            for turn in range(rounds):
                await asyncio.sleep(rng.choice([0, 0.001, 0.001, 5.0]))
                async with lock:
                    await queue.put(number)
                    trace.append((loop.time(), number, turn))
                await queue.get()

        await asyncio.gather(*(work(number) for number in range(count)))

    simulate(main(), loop)
    return trace


def test_a_day_of_sleep_takes_no_time() -> None:
    loop = SimLoop()
    started = time.perf_counter()
    simulate(asyncio.sleep(7 * DAY_S), loop)
    assert loop.time() == pytest.approx(7 * DAY_S)
    assert time.perf_counter() - started < 5


def test_timers_fire_in_order_at_their_virtual_times() -> None:
    loop = SimLoop()
    seen: list[tuple[str, float]] = []

    async def wake(name: str, after: float) -> None:
        await asyncio.sleep(after)
        seen.append((name, loop.time()))

    async def main() -> None:
        await asyncio.gather(wake("c", 3600), wake("a", 0.25), wake("b", 10))

    simulate(main(), loop)
    assert seen == [("a", 0.25), ("b", 10.0), ("c", 3600.0)]


def test_time_stands_still_while_anything_is_ready() -> None:
    loop = SimLoop()

    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return loop.time()

    assert simulate(main(), loop) == 0.0


def test_timeouts_are_virtual() -> None:
    loop = SimLoop()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()

    simulate(main(), loop)
    assert loop.time() == pytest.approx(3600)


def test_deadlock_is_raised_and_names_the_waiting_task() -> None:
    async def stuck_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(SimDeadlock, match="stuck_for_ever"):
        simulate(stuck_for_ever(), SimLoop())


def test_deadlock_of_a_child_is_found_while_others_end() -> None:
    async def main() -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        await asyncio.gather(asyncio.sleep(5), lock.acquire())

    loop = SimLoop()
    with pytest.raises(SimDeadlock, match=r"deadlock at 5\.0"):
        simulate(main(), loop)


def test_exceptions_pass_through_and_leftover_tasks_are_cancelled() -> None:
    cancelled: list[bool] = []

    async def background() -> None:
        try:
            await asyncio.sleep(DAY_S)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        task = asyncio.create_task(background())
        await asyncio.sleep(1)
        raise ValueError(f"stop {task.done()}")

    with pytest.raises(ValueError, match="stop False"):
        simulate(main(), SimLoop())
    assert cancelled == [True]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), chaos=st.none() | st.integers(0, 2**32))
def test_same_seed_gives_the_same_trace(seed: int, chaos: int | None) -> None:
    first = workers(SimLoop(chaos), 6, 5, seed)
    second = workers(SimLoop(chaos), 6, 5, seed)
    assert first == second
    assert len(first) == 30


def test_without_chaos_ready_callbacks_are_first_in_first_out() -> None:
    assert order_of(SimLoop(), 50) == list(range(50))


def test_chaos_changes_the_order_but_loses_nothing() -> None:
    orders = [order_of(SimLoop(seed), 50) for seed in range(5)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5


def order_of(loop: SimLoop, count: int) -> list[int]:
    order: list[int] = []

    async def main() -> None:
        for number in range(count):
            loop.call_soon(order.append, number)
        await asyncio.sleep(1)

    simulate(main(), loop)
    return order


def test_chaos_also_reorders_timers_of_one_instant_without_moving_them() -> None:
    def fired(seed: int | None) -> list[int]:
        loop = SimLoop(seed)
        order: list[int] = []

        async def main() -> None:
            for number in range(20):
                loop.call_at(5.0, order.append, number)
            loop.call_at(5.001, order.append, 99)
            await asyncio.sleep(6)
            assert LoopClock(loop).monotonic_ns() == 6_000_000_000

        simulate(main(), loop)
        return order

    assert fired(1)[-1] == 99
    assert sorted(fired(1)) == [*range(20), 99]
    assert fired(1) != fired(2)


def test_loop_clock_counts_from_its_start() -> None:
    loop = SimLoop()
    clock = LoopClock(loop, start_wall_ms=1_700_000_000_000)

    async def main() -> tuple[int, int]:
        await asyncio.sleep(12.345)
        return clock.monotonic_ns(), clock.wall_ms()

    assert simulate(main(), loop) == (12_345_000_000, 1_700_000_012_345)


def test_a_real_socket_still_wakes_the_loop() -> None:
    async def main() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        # Sockets are not simulated: a ticking timer keeps the loop alive until they answer.
        async def tick() -> None:
            for _ in range(1_000_000):
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        ticking.cancel()
        server.close()
        await server.wait_closed()
        return line

    assert simulate(main(), SimLoop()) == b"hello\n"
