import numpy as np
from pair_cases import lists
from replay_cases import day

from predawn.server.replay import PairOptions
from predawn.server.replay.pair_asks import asks_of
from predawn.server.replay.pair_rivals import judge, rivals_of

MINUTE_MS = 60_000


def test_all_rivals_are_held_to_the_same_terms() -> None:
    trace = day().slice(0, 900)
    asks = asks_of(trace, first=200)
    rivals = rivals_of(trace, asks, judge(trace, asks, None), np.zeros(trace.rows, np.float32))
    found = rivals.of(PairOptions(budget=0.3, ttl_ms=30 * MINUTE_MS))
    longer = rivals.of(PairOptions(budget=0.3, ttl_ms=300 * MINUTE_MS))
    for name, rule in found["baselines"].items():
        assert rule["budget_used"] < 0.33
        assert -0.05 < rule["kept"] < 0.5
        assert rule["coverage_exact"] <= found["oracles"]["clairvoyant"]["coverage_exact"]
        assert rule["coverage_exact"] <= longer["baselines"][name]["coverage_exact"] + 0.02


def test_without_truth_the_rankers_own_scores_are_followed_and_nothing_is_lost() -> None:
    trace = lists([(0, 1, [1, 2, 3, 4]), (1, 1, [1, 2])])
    asks = asks_of(trace)
    assert judge(trace, asks, None) is None
    for scores, covered in (([4, 3, 2, 1], 1), ([1, 2, 4, 3], 0)):
        given = np.array([*scores, 0, 0], dtype=np.float32)
        rivals = rivals_of(trace, asks, None, given)
        found = rivals.of(PairOptions(budget=0.25))["baselines"]["ranker score"]
        assert found["coverage_exact"] == covered / 6 and "kept" not in found
        assert rivals.distillation(0) == {}
