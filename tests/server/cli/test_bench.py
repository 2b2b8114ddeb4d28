"""`predawn bench` and `predawn profile`: options reach the harness, JSON is its rows."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from predawn.bench import profile as profiling
from predawn.bench import rig, suites
from predawn.bench.child import ChildDied
from predawn.bench.harness import Row, stamp
from predawn.server.cli.app import build

Calls = list[tuple[Any, ...]]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Suites that were run, with `smoke` and `only`; each gives one row."""
    calls: Calls = []

    def run_suite(
        name: str,
        *,
        smoke: bool,
        only: str,
        note: Callable[[str], None],
        progress: Callable[[float], None],
    ) -> list[Row]:
        calls.append((name, smoke, only))
        progress(1.0)
        note("quiet machine")
        return [stamp(name).row("case", "time", 1.5, "ns")]

    monkeypatch.setattr(suites, "run_suite", run_suite)
    return calls


def test_bench_runs_the_suites_named_in_order(runs: Calls) -> None:
    result = CliRunner().invoke(build(), ["bench", "store", "codec", "--smoke", "--json", "-"])
    assert result.exit_code == 0, result.stderr
    assert runs == [("store", True, ""), ("codec", True, "")]
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["suite"] for row in rows] == ["store", "codec"] and rows[0]["value"] == 1.5
    assert "quiet machine" in result.stderr


def test_bench_without_a_name_runs_them_all_for_real(runs: Calls) -> None:
    assert CliRunner().invoke(build(), ["bench"]).exit_code == 0
    assert runs == [(name, False, "") for name in suites.SUITES]


def test_bench_runs_the_cases_asked_for(runs: Calls) -> None:
    assert CliRunner().invoke(build(), ["bench", "store", "--case", "get *"]).exit_code == 0
    assert runs == [("store", False, "get *")]


def test_bench_lists_and_runs_nothing(runs: Calls) -> None:
    result = CliRunner().invoke(build(), ["bench", "--list"])
    assert result.stdout.split() == list(suites.SUITES) and not runs


def test_bench_of_an_unknown_suite_names_the_nearest() -> None:
    result = CliRunner().invoke(build(), ["bench", "stor"])
    assert result.exit_code == 2 and "did you mean 'store'" in result.stderr


def test_a_real_suite_runs() -> None:
    result = CliRunner().invoke(build(), ["bench", "limits", "--smoke", "--json", "-"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[0])["suite"] == "limits"


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Profile runs: (target host, port, bodies, seconds, rate, seed)."""
    calls: Calls = []

    def run(target: profiling.Target, seconds: float, rate: float, seed: int) -> object:
        calls.append((target.host, target.port, target.bodies, seconds, rate, seed))
        return object()

    monkeypatch.setattr(profiling, "run", run)
    monkeypatch.setattr(profiling, "show", lambda found, console: console.print("shown"))
    monkeypatch.setattr(profiling, "as_json", lambda found: b'{"requests": 1}')
    monkeypatch.setattr(rig, "bare", lambda folder: nullcontext(SimpleNamespace(port=99)))
    return calls


def test_profile_options_reach_the_load(profiles: Calls) -> None:
    options = [
        "--url",
        "http://h:5",
        "--seconds",
        "2",
        "--rate",
        "7",
        "--users",
        "3",
        "--items",
        "4",
        "--seed",
        "9",
        "--json",
        "-",
    ]
    result = CliRunner().invoke(build(), ["profile", *options])
    assert result.exit_code == 0, result.stderr
    ((host, port, bodies, seconds, rate, seed),) = profiles
    assert (host, port, seconds, rate, seed) == ("h", 5, 2.0, 7.0, 9)
    assert len(bodies) == 3 and len(json.loads(bodies[0])["items"]) == 4
    assert json.loads(result.stdout) == {"requests": 1} and "shown" in result.stderr


def test_profile_without_a_server_starts_one(profiles: Calls) -> None:
    assert CliRunner().invoke(build(), ["profile"]).exit_code == 0
    assert profiles[0][:2] == ("127.0.0.1", 99)


def test_a_server_that_does_not_start_is_a_line(
    profiles: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(folder: Path) -> None:
        raise ChildDied("python -m predawn.server: ended with status 2")

    monkeypatch.setattr(rig, "bare", dies)
    result = CliRunner().invoke(build(), ["profile"])
    assert result.exit_code == 1 and not profiles
    assert result.stderr == "predawn: python -m predawn.server: ended with status 2\n"
