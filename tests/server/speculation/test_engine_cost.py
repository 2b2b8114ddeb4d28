"""The cost of a batch: found from the batches that ran, never absurd."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.request import UserId
from predawn.server.speculation.engine_cost import EngineCost

BATCH = st.tuples(st.integers(1, 5), st.integers(1, 50), st.integers(0, 10**9))


@given(st.lists(BATCH, max_size=30))
def test_costs_are_finite_and_not_negative(batches: list[tuple[int, int, int]]) -> None:
    cost = EngineCost()
    for number, (users, pairs, engine_ns) in enumerate(batches):
        cost.ran([number * 10 + user for user in range(users)], pairs, engine_ns)
        assert 0 <= cost.encode <= 10_000
        assert cost.pair_ns >= 0


def test_users_and_pairs_are_told_apart() -> None:
    rng, cost = random.Random(0), EngineCost()
    for number in range(300):
        users: list[UserId] = [number * 10 + user for user in range(rng.randint(1, 8))]
        pairs = rng.randint(len(users), 300)
        cost.ran(users, pairs, 2_000_000 * len(users) + 50_000 * pairs + rng.randint(0, 100_000))
    assert cost.encode == pytest.approx(40, rel=0.05)
    assert cost.pair_ns == pytest.approx(50_000, rel=0.05)


def test_a_history_that_is_kept_costs_nothing_until_it_is_forgotten() -> None:
    cost = EngineCost(fixed_encode=7)
    assert cost.encode_pairs("a") == 7
    cost.ran(["a"], 10, 1_000)
    assert (cost.encode_pairs("a"), cost.encode_pairs("b")) == (0, 7)
    cost.forget(["a", "b"])
    assert cost.encode_pairs("a") == 7
    cost.ran(["a"], 10, 1_000)
    for user in range(1_024):
        cost.ran([user], 1, 1_000)
    assert cost.encode_pairs("a") == 7
