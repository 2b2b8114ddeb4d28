"""`predawn train --from-log`: a log and a trace in, a snapshot of a ranker out."""

import json
from pathlib import Path

import pytest
from training_log_cases import outcomes, served, write_log
from typer.testing import CliRunner, Result

from predawn.server.cli.app import build
from predawn.server.models.snapshots import load_snapshot
from predawn.server.traces import write_trace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a log and its trace."""
    directory = tmp_path_factory.mktemp("served")
    write_trace(directory / "trace.jsonl", outcomes(served(80, exact=True)))
    write_log(directory / "log", served(80))
    return directory


def invoke(place: Path, out: Path, *options: str) -> Result:
    command = ["train", str(place / "trace.jsonl"), "--from-log", str(place / "log")]
    return CliRunner().invoke(build(), [*command, "--out", str(out), *options])


def test_a_snapshot_comes_out_and_the_json_says_how_good_it_is(place: Path, tmp_path: Path) -> None:
    result = invoke(place, tmp_path, "--size", "tiny", "--epochs", "2", "--json", "-")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["ranker"], found["requests"], found["rows"]) == ("ctr", 80, 400)
    assert found["labelled"] == 400 and "click" in found["auc"]
    assert found["served"]["normalised_entropy"] > 1  # the scores of these tests are random
    assert load_snapshot(tmp_path).path == Path(found["snapshot"])
    assert "training" in result.stderr


def test_people_see_the_ranker_beside_what_was_served(place: Path, tmp_path: Path) -> None:
    options = ["--size", "tiny", "--epochs", "1", "--ranker", "ctr", "--window", "30m"]
    result = invoke(place, tmp_path, *options, "--without-event", "negative")
    assert result.exit_code == 0, result.stderr
    assert "as served" in result.stdout and "AUC of click" in result.stdout
    assert f"--set rankers.ctr.snapshot={tmp_path}" in result.stdout


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--window", "soon"], 2, "--window: 'soon' is not a duration"),
        (["--without-event", "maybe"], 2, "--without-event: 'maybe' is unknown"),
        (["--foundation", "tiny"], 2, "--foundation: is of models that --from-log keeps"),
        (["--table-rows", "5"], 2, "--table-rows: is of models that --from-log keeps"),
        (["--ranker", "other"], 1, "no ranker 'other'"),
    ],
)
def test_what_cannot_be_is_a_line(
    place: Path, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    result = invoke(place, tmp_path / "s", *options)
    assert (result.exit_code, "Traceback" in result.stderr) == (code, False)
    assert said in result.stderr and not (tmp_path / "s").exists()
