import numpy as np
import pytest
from pair_cases import asked
from replay_cases import day

from predawn.server.replay.pair_asks import Asks, asks_of
from predawn.server.replay.pair_plain import (
    LastLists,
    MissesOnly,
    Plain,
    Rule,
    Terms,
    TopScored,
    run,
    terms_of,
)

HOUR_MS = 3_600_000
PLENTY = Terms(budget=10.0, ttl_ms=100, capacity=1_000, burst=1e9)


def at(shown: list[tuple[int, int, list[int]]], terms: Terms = PLENTY, lists: int = 0) -> Plain:
    asks = asked(shown)
    return run(asks, terms, LastLists(asks, lists) if lists else MissesOnly())


def test_a_missed_pair_is_there_for_a_ttl_which_a_read_does_not_renew() -> None:
    shown = [(0, 1, [5]), (60, 1, [5]), (100, 1, [5]), (101, 1, [5]), (150, 2, [5])]
    found = at(shown)
    assert found.computed_at.tolist() == [-1, 0, 0, -1, -1]
    assert found.computed == 3


def test_what_nobody_asked_for_is_waste() -> None:
    assert at([(0, 1, [5, 6]), (10, 1, [5])]).unasked == 1


def test_the_budget_is_never_overdrawn_and_saves_up_to_the_burst() -> None:
    shown = [(t, 1, [2 * t, 2 * t + 1]) for t in range(10)]
    assert at(shown, Terms(0.25, 100, 1_000, burst=1e9)).computed == 5
    assert at(shown, Terms(0.25, 100, 1_000, burst=0.9)).computed == 0


def test_a_full_store_drops_what_was_used_longest_ago() -> None:
    shown = [(0, 1, [1, 2]), (1, 1, [1]), (2, 1, [3]), (3, 1, [1]), (4, 1, [2])]
    assert at(shown, Terms(10.0, 100, 2, 1e9)).computed_at.tolist() == [-1, -1, 0, -1, 0, -1]


def test_the_last_lists_are_computed_anew_when_they_expire() -> None:
    shown = [(0, 1, [5]), (10, 1, [6]), (250, 1, [5]), (251, 1, [6])]
    assert at(shown, lists=2).computed_at.tolist() == [-1, -1, 1, 1]
    assert at(shown, lists=1).computed_at.tolist() == [-1, -1, -1, 1]


def test_the_papers_rule_takes_the_highest_scores_of_the_newest_list() -> None:
    asks = asked([(0, 1, [1, 2, 3, 4]), (1, 1, [1, 2, 3, 4])])
    scores = np.array([0.1, 0.9, 0.2, 0.8] * 2, dtype=np.float32)
    found = run(asks, Terms(0.5, 100, 1_000, 1e9), TopScored(asks, scores))
    assert found.computed_at.tolist() == [-1, -1, -1, -1, -1, 0, -1, 0]


@pytest.mark.parametrize("budget", [0.2, 1.0])
def test_figures_add_up(budget: float) -> None:
    asks = asks_of(day(), first=len(day()) // 4)
    terms = terms_of(asks, budget, 6 * HOUR_MS, 100_000)
    rules: list[Rule] = [MissesOnly(), LastLists(asks, 3), TopScored(asks, scores(asks))]
    for rule in rules:
        found = run(asks, terms, rule)
        figures = found.figures(asks)
        assert figures["fm_pairs_computed"] <= budget * asks.asked + terms.burst
        assert 0 <= found.unasked <= found.computed
        hits = round(figures["coverage_exact"] * asks.asked)
        assert hits == np.count_nonzero(found.computed_at[asks.counted] >= 0)
        if isinstance(rule, MissesOnly) and budget == 1.0:
            assert found.computed == asks.asked - hits


def scores(asks: Asks) -> np.ndarray:
    return np.random.default_rng(1).random(len(asks.item), dtype=np.float32)
