"""Time as an argument: every part of the server that needs "now" is handed a `Clock`.

The only file of the project that calls the operating system's clocks (a house test checks it).
In a simulation `now` comes from the event loop (`server.simloop.LoopClock`).
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for durations and deadlines, one for ages that outlive the process."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back; comparable only within one machine and boot."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch: what `written_at` and event times are stated in."""
        ...


class SystemClock:
    """The machine's clocks. Linux: `CLOCK_MONOTONIC` is shared by all processes of a machine."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
