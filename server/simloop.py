"""An asyncio event loop in virtual time: idle time is skipped, never slept.

Invariant: with the same program and the same seed, the same callbacks run in the same order at the
same virtual times. That holds for code that waits on futures, timers and queues of this loop only;
threads and sockets bring the outside world's order with them. Works on Python 3.11 to 3.13.
"""

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Below the loop's clock resolution (1 ns): reorders timers of the same instant, moves none.
_TIE_JITTER_S = 1e-10


class SimDeadlock(RuntimeError):
    """Nothing is ready, nothing is scheduled and the main coroutine has not ended: in real time
    the program would hang for ever."""


class SimLoop(asyncio.SelectorEventLoop):
    """Event loop whose `time()` starts at 0 and jumps to the next timer when nothing is ready.

    seed: None keeps asyncio's first-in-first-out order; a number turns on chaos: in every round the
    ready callbacks, and timers due at the same instant, run in an order drawn from it. asyncio
    promises that order to transports, so chaos is for code without sockets.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._now_s = 0.0
        super().__init__(_SkippingSelector(self))
        self._chaos = None if seed is None else random.Random(seed)
        # The one private name of asyncio used here: a deque from 3.4 to 3.14.
        self._runnable: deque[asyncio.Handle] = vars(self)["_ready"]

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio's; under chaos, timers of the same instant get a random order."""
        if self._chaos is not None:
            when += self._chaos.random() * _TIE_JITTER_S
        return super().call_at(when, callback, *args, context=context)

    def idle(self, timeout_s: float | None) -> None:
        """Called by the selector instead of sleeping; `timeout_s` as in `select`."""
        if timeout_s is None:
            raise SimDeadlock(self._stuck())
        self._now_s += max(timeout_s, 0.0)
        if self._chaos is not None:
            self._chaos.shuffle(self._runnable)

    def _stuck(self) -> str:
        tasks = sorted(repr(task) for task in asyncio.all_tasks(self))
        waiting = "\n  ".join(tasks) or "none"
        return f"deadlock at {self._now_s:.6f} s: nothing ready or scheduled; tasks:\n  {waiting}"


class _SkippingSelector(selectors.BaseSelector):
    """Polls the real selector and hands the waiting to the loop, which jumps instead."""

    def __init__(self, loop: SimLoop) -> None:
        self._real = selectors.DefaultSelector()
        self._loop = loop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if not events:
            self._loop.idle(timeout)
        return events


class LoopClock:
    """`Clock` of a loop: durations from `loop.time()`, wall time from a stated start."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start_wall_ms: int = 0) -> None:
        self._loop = loop
        self._start_wall_ms = start_wall_ms

    def monotonic_ns(self) -> int:
        return round(self._loop.time() * 1e9)

    def wall_ms(self) -> int:
        return self._start_wall_ms + self.monotonic_ns() // 1_000_000


def simulate(main: Coroutine[Any, Any, T], loop: SimLoop) -> T:
    """Runs `main` to its end on `loop`, cancels what it left behind, closes the loop.

    Raises SimDeadlock, with the tasks that hang, when it can never end.
    """
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
