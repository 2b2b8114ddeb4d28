"""The rules propose a user's last lists, in their order, and forget who came longest ago."""

from collections.abc import Callable

import numpy as np
import pytest

from predawn.server.request import F32, U8, U64
from predawn.server.speculation.contract import Origin, PredictsPairs
from predawn.server.speculation.rules import RecentPairs, ScoredPairs


def show(
    rule: PredictsPairs, user: int | str, scores: dict[int, float], known: int, now_ms: int = 0
) -> None:
    """A request; the first `known` of its pairs were there."""
    items: U64 = np.array(list(scores), dtype=np.uint64)
    values: F32 = np.array(list(scores.values()), dtype=np.float32)
    flags: U8 = (np.arange(len(scores)) < known).astype(np.uint8)
    rule.asked(user, items, values, flags, now_ms)


def test_recency_goes_from_list_to_list() -> None:
    rule = RecentPairs(10, 3)
    show(rule, 1, {1: 9.0, 2: 9.5}, 2)
    show(rule, 1, {3: 0.1, 1: 0.2, 4: 0.0}, 1)
    found = rule.propose(1, 0, 10)
    assert found.items.tolist() == [1, 3, 4, 2]
    assert found.origins.tolist() == [Origin.MISSED, Origin.SHOWN, Origin.MISSED, Origin.SHOWN]
    assert (np.diff(found.chances) < 0).all()
    assert found.chances[0] <= 1 and found.chances[-1] > 0
    assert rule.propose(1, 0, 2).items.tolist() == [1, 3]


def test_score_goes_over_all_lists_by_what_the_ranker_said() -> None:
    rule = ScoredPairs(10, 3)
    show(rule, 1, {1: 9.0, 2: 9.5}, 2)
    show(rule, 1, {3: 0.1, 1: 0.2, 4: 0.0}, 1)
    found = rule.propose(1, 0, 10)
    assert found.items.tolist() == [2, 1, 3, 4]
    assert found.chances[2] == pytest.approx(1 / (1 + np.exp(-0.1)))
    assert (np.diff(found.chances) < 0).all()


@pytest.mark.parametrize("make", [RecentPairs, ScoredPairs])
def test_only_the_last_lists_of_the_last_users_are_kept(
    make: Callable[[int, int], PredictsPairs],
) -> None:
    rule = make(2, 2)
    for item in range(5):
        show(rule, "a", {item: 1.0}, 0)
    assert sorted(rule.propose("a", 0, 10).items.tolist()) == [3, 4]
    for user in (1, 2):
        show(rule, user, {9: 1.0}, 0)
    assert len(rule.propose("a", 0, 10).items) == 0
    assert rule.report() == {"remembered": {"users": 2}}


@pytest.mark.parametrize("make", [RecentPairs, ScoredPairs])
def test_strings_and_integers_never_meet(make: Callable[[int, int], PredictsPairs]) -> None:
    rule = make(5, 5)
    show(rule, "7", {1: 1.0}, 0)
    assert len(rule.propose(7, 0, 10).items) == 0


def test_missed_pairs_come_first_and_the_unlikely_not_at_all() -> None:
    rule = RecentPairs(10, 3)
    show(rule, 7, {1: 3.0, 2: 2.0, 3: 1.0}, 3)
    alone = rule.propose(7, 0, 10).chances.tolist()
    found = rule.propose(7, 0, 10, alone[1], np.array([3, 9], dtype=np.uint64))
    assert found.items.tolist() == [3, 9, 1, 2]
    assert found.chances.tolist() == [alone[2], -1, alone[0], alone[1]]
    assert found.origins.tolist() == [Origin.MISSED, Origin.MISSED, Origin.SHOWN, Origin.SHOWN]
    assert rule.propose(7, 0, 1, alone[1], np.zeros(0, dtype=np.uint64)).items.tolist() == [1]
