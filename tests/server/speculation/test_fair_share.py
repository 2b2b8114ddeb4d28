"""Shares of the budget: nobody stays below the line who has taken too much, memory is bounded."""

import random

from predawn.server.speculation.fair_share import FairShare


def test_who_stops_when_told_takes_no_more_than_his_share() -> None:
    rng, fair = random.Random(0), FairShare(0.1, 1_000)
    greedy = total = 0.0
    for _ in range(20_000):
        others = rng.randint(0, 3)
        for _ in range(others):
            fair.took(rng.randint(1, 500), 1)
        if fair.left(0) > 0:
            fair.took(0, 1)
            greedy += 1
        total += others
    assert 0.05 * (total + greedy) <= greedy <= 0.1 * (total + greedy) + 100


def test_a_share_comes_back_as_others_spend() -> None:
    fair = FairShare(0.1, 100)
    fair.took("a", 10)
    assert fair.left("a") == 0
    for user in range(50):
        fair.took(user, 1)
    assert fair.left("a") == 5


def test_it_forgets_users_who_take_little() -> None:
    fair = FairShare(0.1, 100)
    for user in range(10_000):
        fair.took(user, 1)
    assert len(fair._taken) <= 100
