"""What checks the kernels besides the bench: run in order, in time, and told."""

import json
import sys
from pathlib import Path

import pytest

from predawn.bench import gpu_checks
from predawn.bench.gpu_checks import Check, checks, run


def _python(name: str, code: str) -> Check:
    return Check(name, (sys.executable, "-c", code))


def test_results_and_output_are_kept(tmp_path: Path) -> None:
    wanted = [
        _python("good", "print('seen')"),
        _python("bad", "raise SystemExit(9)"),
        Check("none", ("/nowhere",), absent="no tool"),
    ]
    assert run(wanted, tmp_path, 60) == {
        "good": "passed",
        "bad": "failed (9)",
        "none": "absent: no tool",
    }
    assert (tmp_path / "check_good.txt").read_text() == "seen\n"


def test_a_check_ends_when_the_time_is_spent(tmp_path: Path) -> None:
    slow = _python("slow", "import time; time.sleep(60)")
    late = {"slow": "left out: the time was spent"}
    assert run([slow], tmp_path, 0.3, least_s=0.1) == late
    assert run([slow], tmp_path, 9.0) == late


def test_time_is_spent_by_all_checks_together(tmp_path: Path) -> None:
    times = iter([0.0, 5.0, 45.0])
    wanted = [_python("first", ""), _python("second", "")]
    spent = run(wanted, tmp_path, 50, lambda: next(times))
    assert spent == {"first": "passed", "second": "left out: the time was spent"}


def test_failed_check_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [_python("bad", "raise SystemExit(3)")]
    monkeypatch.setattr(gpu_checks, "checks", lambda: listed)
    assert gpu_checks.main([str(tmp_path), "60"]) == 1
    assert json.loads((tmp_path / "checks.json").read_text()) == {"bad": "failed (3)"}
    listed[0] = _python("good", "")
    assert gpu_checks.main([str(tmp_path), "60"]) == 0


def test_every_check_has_a_command_or_a_reason() -> None:
    found = {check.name: check for check in checks()}
    assert list(found) == ["small", "memcheck", "racecheck", "tests"]
    assert found["racecheck"].command[3:5] == ("--tool", "racecheck") or found["racecheck"].absent
    assert found["tests"].absent == ""
