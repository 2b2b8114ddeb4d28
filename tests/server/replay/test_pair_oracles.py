from itertools import combinations

import numpy as np
import pytest
from pair_cases import asked, random_asks
from replay_cases import day

from predawn.server.replay.pair_asks import Asks, asks_of
from predawn.server.replay.pair_oracles import (
    Windows,
    best,
    clairvoyant,
    same_candidates,
)
from predawn.server.replay.pair_plain import LastLists, MissesOnly, Rule, Terms, TopScored, run

TTL_MS = 9


def by_trying(asks: Asks, starts: list[tuple[int, int]], budget: int) -> int:
    """The most asks covered by any `budget` of the computations (pair, instant); one in the
    instant of an ask is made before it."""
    rows = list(zip(asks.pair.tolist(), asks.row_t_ms.tolist(), strict=True))
    covers = [
        {row for row, (pair, t) in enumerate(rows) if pair == mine and begin <= t <= begin + TTL_MS}
        for mine, begin in starts
    ]
    taken = combinations(covers, min(budget, len(covers)))
    return max(len(set[int]().union(*each)) for each in taken)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("budget", [1, 2, 4])
def test_no_choice_of_computations_covers_more_and_one_covers_as_much(
    seed: int, budget: int
) -> None:
    asks = random_asks(seed)
    starts = sorted(set(zip(asks.pair.tolist(), asks.row_t_ms.tolist(), strict=True)))
    terms = Terms(budget / len(asks.item), TTL_MS, 100, burst=0.0)
    # Budgets are shares: half a pair more keeps the rounding from taking one away.
    terms = Terms(terms.budget + 0.5 / len(asks.item), TTL_MS, 100, 0.0)
    found = best(clairvoyant(asks, TTL_MS), asks, terms)
    assert round(found["coverage_exact"] * asks.asked) == by_trying(asks, starts, budget)


def instants(windows: Windows) -> list[int]:
    found = np.full(int(windows.row.max()) + 1, -9)
    found[windows.row] = windows.start_ms
    return found.tolist()


def test_the_same_candidates_are_those_shown_lately_to_the_user() -> None:
    shown = [(0, 1, [5]), (2, 1, [6]), (4, 1, [7]), (6, 1, [5]), (30, 1, [5])]
    asks = asked(shown)
    assert instants(same_candidates(asks, TTL_MS, lists=2, popular=0))[3:] == [2, -1]
    assert instants(same_candidates(asks, TTL_MS, lists=9, popular=0))[3] == 4
    assert instants(same_candidates(asks, 30, lists=1, popular=0))[4] == 6


def test_the_same_candidates_are_also_the_popular_ones() -> None:
    minute = 60_000
    shown = [(t * minute, 2 + t, [9]) for t in range(5)]
    shown += [(6 * minute, 1, [5]), (7 * minute, 1, [9])]
    windows = same_candidates(asked(shown), 5 * minute, lists=1, popular=1)
    assert instants(windows)[-2:] == [-1, 6 * minute]


@pytest.mark.parametrize("budget", [0.25, 0.5, 1.0])
def test_oracles_bound_every_rule(budget: float) -> None:
    asks = asks_of(day(), first=len(day()) // 4)
    ttl_ms = 6 * 3_600_000
    terms = Terms(budget, ttl_ms, 1_000_000, burst=50.0)
    scores = np.random.default_rng(1).random(len(asks.item), dtype=np.float32)
    all_known = best(clairvoyant(asks, ttl_ms), asks, terms)
    same = best(same_candidates(asks, ttl_ms, lists=10, popular=256), asks, terms)
    assert same["coverage_exact"] <= all_known["coverage_exact"] <= 1
    assert 0 < all_known["most_held"] <= all_known["fm_pairs_computed"]
    rules: list[Rule] = [MissesOnly(), TopScored(asks, scores)]
    for rule in rules:
        covered = run(asks, terms, rule).figures(asks)["coverage_exact"]
        assert covered <= same["coverage_exact"]
    kept = run(asks, terms, LastLists(asks, 10)).figures(asks)["coverage_exact"]
    assert kept <= all_known["coverage_exact"]
