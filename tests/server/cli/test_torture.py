"""`predawn bench torture`: its report as JSON and as a table; what must not be ends it with 1."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from predawn.bench import torture
from predawn.bench.torture_tally import Tally
from predawn.server.cli.app import build


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> Tally:
    """What the torture will have found; nothing is run."""
    found = Tally(kills=3)

    def run(seconds: float, **more: Any) -> dict[str, object]:
        more["told"]("steady", 1.0)
        return found.report(seconds, more["workers"], more["seed"])

    monkeypatch.setattr(torture, "run", run)
    return found


def test_options_reach_the_torture_and_json_is_one_object(tally: Tally) -> None:
    arguments = ["bench", "torture", "--seconds", "3", "--processes", "5", "--seed", "9"]
    result = CliRunner().invoke(build(), [*arguments, "--json", "-"])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["seconds"] == 3 and report["processes"] == 5 and report["seed"] == 9
    assert report["kills"] == tally.kills and "kills" in result.stderr


def test_a_violation_is_told_with_its_context_and_ends_with_1(tally: Tally) -> None:
    tally.counts["torn"] = 1
    tally.violations.append({"wrong": "torn", "key": 12, "set": 34})
    result = CliRunner().invoke(build(), ["bench", "torture", "--json", "-"])
    assert result.exit_code == 1
    assert "torn is 1, must be 0" in result.stderr and "'set': 34" in result.stderr
    assert json.loads(result.stdout)["violations"][0]["key"] == 12
