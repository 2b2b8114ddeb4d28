"""`predawn replay`: options reach the replay, JSON is its report."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from predawn.bench.workload import WorkloadOptions, generate
from predawn.server import replay as replaying
from predawn.server.cli.app import build
from predawn.server.cli.replay import ReplayMode
from predawn.server.cli.replay_pairs import NeighbourKind, Predictor
from predawn.server.replay import InferenceCost, PairCost, PairOptions, ReplayOptions
from predawn.server.replay.options import MODES
from predawn.server.replay.pair_options import NEIGHBOURS, PREDICTORS
from predawn.server.traces import write_trace

OPTIONS = {
    "--direct-ttl": ("7m", "direct_ttl_ms", 420_000),
    "--failover-ttl": ("3h", "failover_ttl_ms", 10_800_000),
    "--wait": ("20ms", "wait_ms", 20),
    "--timeout": ("90", "timeout_ms", 90),
    "--average-over": ("3", "average_over", 3),
    "--capacity": ("64", "capacity", 64),
    "--batch-every": ("30m", "batch_every_ms", 1_800_000),
    "--retries": ("3", "retries", 3),
    "--failure-rate": ("0.5", "failure_rate", 0.5),
    "--hang-rate": ("0.25", "hang_rate", 0.25),
    "--hang-s": ("3", "hang_s", 3.0),
    "--warm-up": ("0.5", "warm_up", 0.5),
    "--models": ("snap", "models", Path("snap")),
    "--mode": ("ercache", "mode", "ercache"),
    "--seed": ("8", "seed", 8),
}

PAIR_OPTIONS = {
    "--budget-pairs-per-asked": ("0.5", "budget", 0.5),
    "--predictor": ("score", "predictor", "score"),
    "--pair-ttl": ("2h", "ttl_ms", 7_200_000),
    "--pair-capacity": ("4096", "capacity", 4096),
    "--fills": ("neighbour, recent", "fills", ("neighbour", "recent")),
    "--recent-length": ("3", "recent_length", 3),
    "--neighbours": ("clusters", "neighbours", "clusters"),
    "--fm-failure-rate": ("0.25", "failure_rate", 0.25),
    "--fm-hang-rate": ("0.125", "hang_rate", 0.125),
    "--budgets": ("0.25,0.5", "budgets", (0.25, 0.5)),
}


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small log."""
    path = tmp_path_factory.mktemp("trace") / "log.jsonl"
    write_trace(path, generate(WorkloadOptions(users=60, hours=4)))
    return str(path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ReplayOptions]:
    """Options of replays that really run, on the defaults."""
    options: list[ReplayOptions] = []
    run = replaying.replay

    def recorded(trace: Any, given: ReplayOptions, *rest: Any) -> Any:
        options.append(given)
        return run(trace, ReplayOptions(), *rest)

    monkeypatch.setattr(replaying, "replay", recorded)
    return options


def test_every_option_reaches_the_replay(trace: str, asked: list[ReplayOptions]) -> None:
    arguments = [text for name, (value, _, _) in OPTIONS.items() for text in (name, value)]
    arguments += ["--cost-fixed-ms", "2", "--cost-per-user-ms", "1", "--oracle", "--compare-modes"]
    result = CliRunner().invoke(build(), ["replay", trace, *arguments])
    assert result.exit_code == 0, result.stderr
    (options,) = asked
    for _, field, expected in OPTIONS.values():
        assert getattr(options, field) == expected, field
    assert options.cost == InferenceCost(2.0, 1.0)
    assert options.oracle and options.compare_modes


def test_the_defaults_are_those_of_the_replay(trace: str, asked: list[ReplayOptions]) -> None:
    assert CliRunner().invoke(build(), ["replay", trace]).exit_code == 0
    assert asked == [ReplayOptions()]
    assert tuple(mode.value for mode in ReplayMode) == MODES


def test_every_option_of_pairs_reaches_the_replay(trace: str, asked: list[ReplayOptions]) -> None:
    arguments = [text for name, (value, _, _) in PAIR_OPTIONS.items() for text in (name, value)]
    arguments += ["--cost-per-pair-ms", "2", "--cost-encode-ms", "1", "--pair-baselines"]
    result = CliRunner().invoke(build(), ["replay", trace, "--fm", "truth", *arguments])
    assert result.exit_code == 0, result.stderr
    pairs = asked[0].pairs
    assert pairs is not None and pairs.fm is None and pairs.baselines
    for _, field, expected in PAIR_OPTIONS.values():
        assert getattr(pairs, field) == expected, field
    assert pairs.cost == PairCost(2.0, 1.0)


def test_pairs_by_default_are_those_of_the_replay(trace: str, asked: list[ReplayOptions]) -> None:
    for fm in ("truth", "snapshots"):
        result = CliRunner().invoke(build(), ["replay", trace, "--fm", fm])
        assert result.exit_code == 0, result.stderr
    fms = [None, Path("snapshots")]
    assert [each.pairs for each in asked] == [PairOptions(fm=fm) for fm in fms]
    assert tuple(each.value for each in Predictor) == PREDICTORS
    assert tuple(each.value for each in NeighbourKind) == NEIGHBOURS


def test_pairs_are_in_the_json_and_in_tables(trace: str) -> None:
    arguments = ["replay", trace, "--fm", "truth", "--pair-capacity", "4096", "--fills", ""]
    arguments += ["--pair-baselines", "--budgets", "0.5", "--json", "-"]
    result = CliRunner().invoke(build(), arguments)
    found = json.loads(result.stdout)["pairs"]["fm"]
    promised = {"asked", "sources", "coverage_exact", "coverage_with_fills", "fm_pairs_computed",
                "budget_used", "waste", "lead_ms", "age_at_use_ms", "calibration", "ece", "brier",
                "loss", "throttle", "curve", "baselines", "oracles"}  # fmt: skip
    assert promised <= set(found) and found["fills"] == []
    for words in ("pairs of fm", "ranker score", "oracle: clairvoyant", "calibration"):
        assert words in result.stderr


def test_the_json_is_the_report_and_the_same_seed_repeats_it(trace: str) -> None:
    arguments = ["replay", trace, "--mode", "ercache", "--oracle", "--json", "-"]
    arguments += ["--failure-rate", "0.2"]
    first, again = (json.loads(CliRunner().invoke(build(), arguments).stdout) for _ in range(2))
    (model,) = first["models"].values()
    assert sum(model["sources"].values()) == first["requests"] and "oracle" in first
    assert first["models"] == again["models"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--direct-ttl", "5 weeks"], 2, "is not a duration"),
        (["--mode", "fast"], 2, "--mode"),
        (["--direct-ttl", "3h", "--failover-ttl", "1h"], 2, "failover_ttl: must be at least"),
        (["--failure-rate", "2"], 2, "--failure-rate"),
        (["--retries", "4"], 2, "--retries"),
        (["--fm", "truth", "--fills", "mean"], 2, "fills: 'mean' is unknown"),
        (["--fm", "truth", "--budgets", "1;2"], 2, "'1;2' is no list of numbers"),
        (["--predictor", "best"], 2, "--predictor"),
        (["--fm", "nowhere"], 1, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused(trace: str, arguments: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(build(), ["replay", trace, *arguments])
    assert result.exit_code == code and said in result.stderr, result.stderr


def test_a_log_that_is_not_there_is_a_line() -> None:
    result = CliRunner().invoke(build(), ["replay", "none.jsonl"])
    assert result.exit_code == 1 and "none.jsonl: no such file" in result.stderr
