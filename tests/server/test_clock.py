"""The machine's clocks: durations never go back, ages are in milliseconds since the epoch."""

from itertools import pairwise

from predawn.server.clock import SystemClock


def test_monotonic_clock_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.monotonic_ns() for _ in range(1000)]
    assert all(before <= after for before, after in pairwise(readings))


def test_wall_clock_counts_milliseconds_since_the_epoch() -> None:
    year_ms = 365.25 * 86_400_000
    assert 2020 < 1970 + SystemClock().wall_ms() / year_ms < 2200
