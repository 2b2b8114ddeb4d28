"""A worker of the torture as a process: it works until the oracle says stop."""

import subprocess
import sys
from pathlib import Path

from predawn.bench.torture_phases import PHASES
from predawn.csrc import _torture


def run_worker(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "predawn.bench.torture_worker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_worker_ends_when_it_is_told_to(tmp_path: Path) -> None:
    store, oracle = str(tmp_path / "store"), str(tmp_path / "oracle")
    PHASES["one set"].create(store, oracle, 2, 1)
    _torture.Supervisor(store, oracle, 1).halt(True)
    assert run_worker(store, oracle, "0", "7").returncode == 0


def test_a_worker_without_a_store_says_so(tmp_path: Path) -> None:
    run = run_worker(str(tmp_path / "store"), str(tmp_path / "oracle"), "0", "7")
    assert run.returncode == 1 and "oracle" in run.stderr
