"""The price: bounded, up when money runs out, down when it piles up, and steady in between."""

import random

from hypothesis import given
from hypothesis import strategies as st

from predawn.server.speculation.price import Price

TARGET = 2_048.0


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 5)), max_size=50))
def test_it_stays_between_the_least_chance_and_one(steps: list[tuple[int, float]]) -> None:
    price = Price(0.02, TARGET)
    for tokens, fullness in steps:
        price.asked(tokens, fullness)
        assert 0.02 <= price.value <= 1


def test_it_rises_on_an_empty_bucket_and_falls_on_a_full_one() -> None:
    price = Price(0.02, TARGET)
    for _ in range(2_000):
        price.asked(10, 0.0)
    assert price.value == 1
    for _ in range(4_000):
        price.asked(10, 4.0)
    assert round(price.value, 6) == 0.02


def test_spending_meets_the_budget_whatever_there_is_to_buy() -> None:
    """Candidates of values of one distribution, then of another that is ten times as many."""
    rng, price = random.Random(0), Price(0.001, TARGET)
    tokens = asked = bought = 0.0
    shares: list[float] = []
    for offers in (30, 300):
        for request in range(6_000):
            asked, tokens = asked + 10, min(16_384.0, tokens + 10)
            price.asked(10, tokens / TARGET)
            worth = sum(rng.random() ** 2 >= price.value for _ in range(offers))
            paid = min(worth, int(tokens))
            bought, tokens = bought + paid, tokens - paid
            if request == 3_000:
                asked = bought = 0
        shares.append(bought / asked)
        assert 0.5 * TARGET <= tokens <= 1.5 * TARGET
    assert all(0.98 <= share <= 1.02 for share in shares)
