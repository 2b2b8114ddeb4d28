"""The eviction suite runs the compiled policy, and its worst figures keep their bars."""

from pathlib import Path

import pytest

from predawn.bench import eviction, harness

MARK = harness.Stamp("eviction", "abc", "cpu x2")


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> eviction.Simulator:
    return eviction.Simulator(tmp_path_factory.mktemp("eviction"))


def test_every_case_is_held_against_lists_over_all_entries() -> None:
    rows = eviction.run(MARK, smoke=True, effort=harness.SMOKE)
    ratios = [row for row in rows if row.case.startswith("Zipf") and row.metric == "hit_ratio"]
    assert {row.peer for row in ratios} == {"global LRU", "global SIEVE"}
    assert all(0 < row.value < 100 and row.ratio for row in ratios)
    assert {"behind_best", "cost", "behind_best_quota", "slowest_change"} <= {
        row.metric for row in rows
    }


@pytest.mark.parametrize("options", [{"alpha": 0.9}, {"alpha": 0.9, "drift": 0.04}])
def test_steered_policy_is_within_a_point_of_the_better_list(
    simulator: eviction.Simulator, options: eviction.Options
) -> None:
    sizes = {"keys": 200_000, "capacity": 20_000, "accesses": 800_000, **options}
    found = simulator.run(["predawn", "global-lru", "global-sieve"], sizes)
    own, lru, sieve = (found[name][-1].hit_ratio for name in found)
    assert own > max(lru, sieve) - 1


def test_useless_fills_cost_demanded_reads_little(simulator: eviction.Simulator) -> None:
    sizes = {"keys": 200_000, "capacity": 20_000, "accesses": 800_000, "alpha": 0.8}
    fills = {"fills": 2, "precision": 0.02, "lead_min": 400, "lead_max": 4_000}
    bare = simulator.hit_ratio("predawn", sizes)
    assert bare - simulator.hit_ratio("predawn", {**sizes, **fills}) < 1.3


def test_right_fills_earn_ways(simulator: eviction.Simulator) -> None:
    sizes = {"keys": 200_000, "capacity": 20_000, "accesses": 800_000, "alpha": 0.8}
    fills = {"fills": 2, "precision": 0.6, "lead_min": 400, "lead_max": 4_000}
    window = simulator.run(["predawn"], {**sizes, **fills})["predawn"][-1]
    assert window.quota >= 3
    best = max(simulator.hit_ratio("sieve", {**sizes, **fills, "quota": q}) for q in (3, 5, 8))
    assert window.hit_ratio > best - 2


def test_same_seed_gives_the_same_figures(simulator: eviction.Simulator) -> None:
    sizes = {"keys": 5_000, "capacity": 500, "accesses": 20_000}
    assert simulator.run(["predawn"], sizes) == simulator.run(["predawn"], sizes)
    other = simulator.hit_ratio("predawn", {**sizes, "seed": 2})
    assert other != simulator.hit_ratio("predawn", sizes)


def test_simulator_refuses_what_it_does_not_know(simulator: eviction.Simulator) -> None:
    with pytest.raises(harness.BenchError, match="colour: unknown name"):
        simulator.hit_ratio("predawn", {"colour": 3})
    with pytest.raises(harness.BenchError, match="arc: unknown cache"):
        simulator.hit_ratio("arc", {})


def test_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(harness.BenchError, match="set CXX"):
        eviction.Simulator(tmp_path)
