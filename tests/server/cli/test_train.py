"""`predawn train`: options reach the training, the report comes out as promised."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from predawn.bench.workload import WorkloadOptions, generate
from predawn.server.cli.app import build
from predawn.server.models import training
from predawn.server.models.snapshots import load_snapshot
from predawn.server.models.training import TrainReport
from predawn.server.traces import Trace, write_trace


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log."""
    path = tmp_path_factory.mktemp("trace") / "log.jsonl"
    write_trace(path, generate(WorkloadOptions(users=40, hours=3)))
    return path


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments of trainings, none of which happens."""
    calls: list[dict[str, Any]] = []

    def train(
        trace: Trace, *, on_progress: Callable[[str, float], None], **options: Any
    ) -> TrainReport:
        calls.append(options | {"requests": len(trace)})
        on_progress("training", 0.5)
        return TrainReport(7, 1.5, {"click": 0.75}, 0.9, Path("snap/000001"))

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


def test_the_json_is_the_report(trace: Path, trainings: list[dict[str, Any]]) -> None:
    result = CliRunner().invoke(build(), ["train", str(trace), "--json", "-"])
    assert json.loads(result.stdout) == {
        "rows": 7, "seconds": 1.5, "auc": {"click": 0.75}, "normalised_entropy": 0.9,
        "snapshot": "snap/000001",
    }  # fmt: skip
    assert trainings[0]["out"] == Path("snapshots") and trainings[0]["holdout"] == 0.2


def test_a_foundation_model_s_worth_is_shown_and_in_the_json(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        "itself": {"auc": {"click": 0.8}, "normalised_entropy": 0.8},
        "without": {"auc": {"click": 0.7}, "normalised_entropy": 0.9},
        "missing": {"auc": {}, "normalised_entropy": None},
        "gain_kept": 0.5,
    }
    report = TrainReport(7, 1.5, {"click": 0.75}, 0.85, Path("snap/000001"), found)
    monkeypatch.setattr(training, "train", lambda trace, **options: report)
    options = ["train", str(trace), "--foundation", "tiny"]
    shown = CliRunner().invoke(build(), options)
    assert shown.exit_code == 0, shown.stderr
    assert "0.9000" in shown.stdout and "gain kept: 50%" in shown.stdout
    written = CliRunner().invoke(build(), [*options, "--json", "-"])
    assert json.loads(written.stdout)["foundation"] == found


def test_a_real_training_writes_a_snapshot(trace: Path, tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "s"), "--epochs", "1", "--max-rows", "500", "--json", "-"]
    result = CliRunner().invoke(build(), ["train", str(trace), *options])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert load_snapshot(tmp_path / "s").path == Path(report["snapshot"])
    assert 0 < report["rows"] <= 1000 and "click" in report["auc"]


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
