"""`predawn verify`: its figures as JSON, its limit, and its exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from predawn.bench import verify as verification
from predawn.bench.verify import Verified
from predawn.server.cli.app import build
from predawn.server.traces import Trace

LINE = '{"t_ms": 1, "user": 1, "items": [1, 2], "clicked": [2]}\n'


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text(LINE)
    return path


def answering(
    monkeypatch: pytest.MonkeyPatch, difference: float
) -> list[tuple[Path, int, int | None]]:
    """Replaces the check itself, which tests/bench/test_verify.py covers with a real server."""
    asked: list[tuple[Path, int, int | None]] = []

    def check(
        path: Path, trace: Trace, folder: Path, limit: int | None, progress: object
    ) -> Verified:
        asked.append((path, len(trace), limit))
        return Verified(requests=1, rows=2, difference_max=difference, auc={"click": 0.75})

    monkeypatch.setattr(verification, "verify", check)
    return asked


def test_figures_are_printed_as_one_json_object(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch, 1e-7)
    arguments = ["verify", "snapshots", str(trace), "--limit", "7", "--json", "-"]
    result = CliRunner().invoke(build(), arguments)
    assert result.exit_code == 0, result.stderr
    assert asked == [(Path("snapshots"), 1, 7)]
    found = json.loads(result.stdout)
    assert found["agrees"] is True
    assert found["auc"] == {"click": 0.75}


def test_a_difference_is_exit_code_1(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 1e-3)
    result = CliRunner().invoke(build(), ["verify", "snapshots", str(trace)])
    assert result.exit_code == 1
    assert "1.00e-03" in result.stdout


def test_a_missing_snapshot_is_one_line(trace: Path) -> None:
    result = CliRunner().invoke(build(), ["verify", "nowhere", str(trace)])
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1].startswith("predawn: nowhere")
