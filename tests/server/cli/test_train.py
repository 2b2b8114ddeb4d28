"""`predawn train`: options reach the training, the report comes out as promised."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from predawn.bench.workload import WorkloadOptions, generate
from predawn.server.cli.app import build
from predawn.server.config_load import assignment, load
from predawn.server.models import training
from predawn.server.models.snapshots import load_snapshot, write_snapshot
from predawn.server.models.training import TrainReport
from predawn.server.traces import Trace, write_trace
from predawn.server.wiring_models import load_models


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log."""
    path = tmp_path_factory.mktemp("trace") / "log.jsonl"
    write_trace(path, generate(WorkloadOptions(users=40, hours=3)))
    return path


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments of trainings, none of which happens."""
    calls: list[dict[str, Any]] = []

    def train(
        trace: Trace, *, on_progress: Callable[[str, float], None], **options: Any
    ) -> TrainReport:
        calls.append(options | {"requests": len(trace)})
        on_progress("training", 0.5)
        return TrainReport(7, 1.5, {"click": 0.75}, 0.9, snapshot)

    snapshot = write_snapshot(tmp_path / "snap", {}, {"history": {"length": 32}})
    monkeypatch.setattr(training, "train", train)
    return calls


def test_every_option_reaches_the_training(trace: Path, trainings: list[dict[str, Any]]) -> None:
    options = ["--out", "o", "--holdout", "0.3", "--seed", "4", "--max-rows", "5"]
    options += ["--epochs", "6", "--threads", "2", "--size", "tiny", "--table-rows", "9"]
    options += ["--resume", "r", "--foundation", "small"]
    result = CliRunner().invoke(build(), ["train", str(trace), *options])
    assert result.exit_code == 0, result.stderr
    (call,) = trainings
    assert call.pop("requests") > 0
    assert call == {"out": Path("o"), "holdout": 0.3, "seed": 4, "max_rows": 5, "epochs": 6,
                    "threads": 2, "size": "tiny", "table_rows": 9, "resume": Path("r"),
                    "foundation": "small"}  # fmt: skip
    assert "0.7500" in result.stdout and "--set models.sum.snapshot=o" in result.stdout
    assert "training" in result.stderr


def test_the_json_is_the_report(
    trace: Path, tmp_path: Path, trainings: list[dict[str, Any]]
) -> None:
    result = CliRunner().invoke(build(), ["train", str(trace), "--json", "-"])
    assert json.loads(result.stdout) == {
        "rows": 7, "seconds": 1.5, "auc": {"click": 0.75}, "normalised_entropy": 0.9,
        "snapshot": str(tmp_path / "snap/000001"),
    }  # fmt: skip
    assert trainings[0]["out"] == Path("snapshots") and trainings[0]["holdout"] == 0.2


def test_a_foundation_model_s_worth_is_shown_and_in_the_json(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        "itself": {"auc": {"click": 0.8}, "normalised_entropy": 0.8},
        "without": {"auc": {"click": 0.7}, "normalised_entropy": 0.9},
        "missing": {"auc": {}, "normalised_entropy": None},
        "gain_kept": 0.5,
    }
    meta = {"history": {"length": 32}, "foundation": {"length": 2048}}
    snapshot = write_snapshot(tmp_path, {}, meta)
    report = TrainReport(7, 1.5, {"click": 0.75}, 0.85, snapshot, found)
    monkeypatch.setattr(training, "train", lambda trace, **options: report)
    options = ["train", str(trace), "--foundation", "tiny"]
    shown = CliRunner().invoke(build(), options)
    assert shown.exit_code == 0, shown.stderr
    assert "0.9000" in shown.stdout and "gain kept: 50%" in shown.stdout
    assert "history.length=1024" in shown.stdout  # a server keeps no more
    written = CliRunner().invoke(build(), [*options, "--json", "-"])
    assert json.loads(written.stdout)["foundation"] == found


def test_a_real_training_writes_a_snapshot(trace: Path, tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "s"), "--epochs", "1", "--max-rows", "500", "--json", "-"]
    result = CliRunner().invoke(build(), ["train", str(trace), *options])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert load_snapshot(tmp_path / "s").path == Path(report["snapshot"])
    assert 0 < report["rows"] <= 1000 and "click" in report["auc"]


@pytest.mark.parametrize("foundation", [[], ["--foundation", "tiny"]])
def test_the_command_that_is_shown_serves_all_that_was_trained(
    trace: Path, tmp_path: Path, foundation: list[str]
) -> None:
    out = tmp_path / "all of them"
    options = ["--out", str(out), "--epochs", "1", "--size", "tiny", *foundation]
    result = CliRunner().invoke(build(), ["train", str(trace), *options])
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if "predawn serve" in line]
    program, command, *words = shlex.split(line)
    assert (program, command, set(words[::2])) == ("predawn", "serve", {"--set"})
    config = load(environ={}, overrides=[assignment(each) for each in words[1::2]]).config
    if foundation:
        assert config.history.length == 64
    assert list(config.pairs) == (["fm"] if foundation else [])
    models = load_models(config)  # and the ranker is tried on what it will get
    assert models.versions == dict.fromkeys(["sum", "ctr", *config.pairs], 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no such file"), ("{", "log.jsonl:1: "), ("", "is empty")],
)
def test_a_log_that_cannot_be_used_is_a_line(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "log.jsonl"
    if text is not None:
        path.write_text(text)
    result = CliRunner().invoke(build(), ["train", str(path), "--out", str(tmp_path / "s")])
    assert result.exit_code in (1, 2) and said in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "s").exists()
