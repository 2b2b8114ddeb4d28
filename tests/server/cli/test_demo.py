"""`predawn demo`: options reach it, JSON is its summary, its failures are lines."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from predawn.bench import demo as showing
from predawn.bench.child import ChildDied
from predawn.server.cli.app import build


@pytest.fixture
def demos(monkeypatch: pytest.MonkeyPatch) -> list[showing.Demo]:
    """Demos that were asked for; they end at once."""
    made: list[showing.Demo] = []

    def run(demo: showing.Demo) -> dict[str, Any]:
        made.append(demo)
        demo.console.print("live table")
        return {"requests": 7, "errors": 0}

    monkeypatch.setattr(showing.Demo, "run", run)
    return made


def test_options_reach_the_demo_and_json_is_its_summary(demos: list[showing.Demo]) -> None:
    arguments = ["demo", "--seconds", "3", "--rate", "20", "--json", "-"]
    result = CliRunner().invoke(build(), arguments)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"requests": 7, "errors": 0}
    assert result.stderr == "live table\n"
    assert (demos[0].seconds, demos[0].rate) == (3.0, 20.0)


def test_without_seconds_it_has_no_end(demos: list[showing.Demo]) -> None:
    result = CliRunner().invoke(build(), ["demo"])
    assert (result.exit_code, result.stdout) == (0, "live table\n")
    assert demos[0].seconds is None


def test_a_server_that_dies_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(demo: showing.Demo) -> None:
        raise ChildDied("died under load")

    monkeypatch.setattr(showing.Demo, "run", run)
    result = CliRunner().invoke(build(), ["demo"])
    assert (result.exit_code, result.stderr) == (1, "predawn: died under load\n")
