"""The throttle: off while pairs pay, down to probes where they do not, back when they do again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.speculation.contract import Origin
from predawn.server.speculation.throttle import FLOOR, Throttle

TTL_MS = 3_600_000
STEP_MS = 10_000
BREAK_EVEN = 0.02


def play(throttle: Throttle, steps: int, chance: float, now_ms: int, rate: int = 100) -> int:
    """`rate` shown pairs a step at full scale, used at once or never; returns the instant."""
    rng = random.Random(now_ms)
    for _ in range(steps):
        now_ms += STEP_MS
        pairs = max(1, round(rate * throttle.scales[Origin.SHOWN]))
        throttle.computed([0, pairs, 0, 0])
        throttle.used([0, sum(rng.random() < chance for _ in range(pairs)), 0, 0])
        throttle.settle(now_ms)
    return now_ms


@pytest.mark.parametrize("chance", [0.05, 0.3, 0.9])
def test_pairs_that_pay_are_left_alone(chance: float) -> None:
    throttle = Throttle(TTL_MS, BREAK_EVEN, 0)
    play(throttle, 1_000, chance, 0)
    assert throttle.scales == [1, 1, 1, 1]
    assert throttle.reason() == ""
    assert throttle.chance(Origin.SHOWN) == pytest.approx(chance, rel=0.3)


def test_pairs_that_are_never_used_are_left_to_probes_and_it_says_why() -> None:
    throttle = Throttle(TTL_MS, BREAK_EVEN, 0)
    play(throttle, 360, 0, 0)
    assert throttle.scales == [1, FLOOR, 1, 1]
    assert throttle.costs.tolist() == [1, 1 / FLOOR, 1, 1]
    assert throttle.reason().startswith("0.1% of the pairs shown lately are asked for in time")
    assert "below break-even (2.0%): only a few are computed" in throttle.reason()
    assert throttle.caps[[0, 2, 3]].tolist() == [1, 1, 1]
    assert 0 < throttle.caps[Origin.SHOWN] < BREAK_EVEN


def test_it_recovers_when_probes_pay_again() -> None:
    throttle = Throttle(TTL_MS, BREAK_EVEN, 0)
    now_ms = play(throttle, 360, 0, 0)
    play(throttle, 360, 0.5, now_ms)
    assert throttle.scales[Origin.SHOWN] == 1


def test_a_change_is_told_once() -> None:
    throttle, told = Throttle(TTL_MS, BREAK_EVEN, 0), 0
    for step in range(1, 400):
        throttle.computed([0, 100, 0, 0])
        told += throttle.settle(step * STEP_MS)
    assert told == 1


def test_uses_that_are_still_to_come_do_not_count_as_waste() -> None:
    """Pairs used after half of their life: nothing is held against them meanwhile."""
    throttle, now_ms = Throttle(TTL_MS, BREAK_EVEN, 0), 0
    delay, least = TTL_MS // 2 // STEP_MS, 1.0
    for step in range(2 * delay):
        now_ms += STEP_MS
        throttle.computed([0, 2, 0, 0])
        throttle.used([0, step > delay // 4, 0, 0])
        throttle.settle(now_ms)
        least = min(least, throttle.scales[Origin.SHOWN])
    assert least == 1


def test_no_break_even_no_throttle() -> None:
    throttle = Throttle(TTL_MS, 0, 0)
    play(throttle, 400, 0, 0)
    assert throttle.scales == [1, 1, 1, 1]
    assert throttle.chance(Origin.SHOWN) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 1_000), st.integers(0, 1_000), st.integers(-(10**6), 10**6)),
        max_size=50,
    )
)
def test_scales_stay_in_bounds_and_the_clock_may_go_back(steps: list[tuple[int, int, int]]) -> None:
    throttle, now_ms = Throttle(TTL_MS, BREAK_EVEN, 10**9), 10**9
    for computed, used, step_ms in steps:
        now_ms += step_ms
        throttle.computed([computed] * 4)
        throttle.used([used] * 4)
        throttle.settle(now_ms)
        assert all(FLOOR <= scale <= 1 for scale in throttle.scales)
        assert all(0 <= throttle.chance(origin) <= 1 for origin in Origin)
