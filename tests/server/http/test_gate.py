"""Admission counts, phases only move forward, empty means empty."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.errors import Overloaded, Unavailable
from predawn.server.http.gate import Gate, Phase


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_inside_is_what_entered_and_never_above_the_limit(steps: list[bool], limit: int) -> None:
    gate, inside = Gate(limit, seed=0), 0
    for enters in steps:
        if enters and inside == limit:
            with pytest.raises(Overloaded, match="in_flight_limit"):
                gate.enter()
        elif enters:
            gate.enter()
            inside += 1
        elif inside:
            gate.leave()
            inside -= 1
        assert gate.inside == inside


def test_nobody_enters_while_draining_but_those_inside_leave() -> None:
    gate = Gate(4, seed=0)
    gate.enter()
    gate.advance(Phase.DRAINING)
    with pytest.raises(Unavailable, match="draining"):
        gate.enter()
    gate.leave()
    assert gate.inside == 0


def test_phases_do_not_go_back() -> None:
    gate = Gate(1, seed=0)
    for phase in (Phase.LEAVING, Phase.SERVING, Phase.DRAINING, Phase.LEAVING):
        gate.advance(phase)
    assert gate.phase is Phase.DRAINING


def test_empty_waits_for_the_last_to_leave() -> None:
    async def main() -> None:
        gate = Gate(2, seed=0)
        await gate.empty()
        gate.enter()
        gate.enter()
        waiting = asyncio.create_task(gate.empty())
        gate.leave()
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.leave()
        await waiting

    asyncio.run(main())


def test_retry_hints_spread_and_come_from_the_seed() -> None:
    first, again, other = (Gate(1, seed) for seed in (1, 1, 2))
    hints = [first.retry_after_s() for _ in range(100)]
    assert hints == [again.retry_after_s() for _ in range(100)]
    assert hints != [other.retry_after_s() for _ in range(100)]
    assert 1 <= min(hints) < 1.5
    assert 2.5 < max(hints) <= 3
