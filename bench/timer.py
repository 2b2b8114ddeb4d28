"""A timer with nanosecond deadlines for an event loop: Linux timerfd (uvloop's own has 1 ms).

Deadlines are on CLOCK_MONOTONIC, the clock of `Clock.monotonic_ns`.
"""

import asyncio
import ctypes
import os
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_SECOND_NS = 1_000_000_000


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Timer:
    """Calls `due` on the loop at the armed time; one time at once, a new one replaces it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, due: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _TimerSpec()
        self._loop = loop
        self._due = due
        loop.add_reader(self._fd, self._expired)

    def arm(self, at_ns: int) -> None:
        """Calls back at `at_ns`, or on the next turn of the loop if that has passed."""
        seconds, nanoseconds = divmod(max(at_ns, 1), _SECOND_NS)
        self._spec.value.seconds = seconds
        self._spec.value.nanoseconds = nanoseconds
        spec = ctypes.byref(self._spec)
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def close(self) -> None:
        """Disarms for good."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # armed anew between the wake-up and this call
        self._due()
