"""A start is timed to the first answer, against the import of torch."""

import re
from pathlib import Path

import pytest

from predawn.bench import harness, models_start, rig
from predawn.bench.child import Child, free_port

HEAVY = {"torch", "triton", "pyarrow", "rich", "pandas", "scipy", "hypothesis", "pytest"}
MARK = harness.Stamp("models", "abc", "cpu x2")


def test_both_starts_are_timed() -> None:
    rows = models_start.rows(MARK, effort=harness.SMOKE, smoke=True)
    assert [row.case for row in rows] == [models_start.OWN, models_start.TRAINED]
    assert all((row.unit, row.peer) == ("s", "import torch") for row in rows)
    assert all(0 < row.value < 60 for row in rows)


def test_an_unwanted_start_does_not_happen() -> None:
    effort = harness.Effort(1, 0.01, only="no such case")
    assert models_start.rows(MARK, effort=effort, smoke=True) == []


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_server_without_torch_imports_nothing_heavy(isolation: str, tmp_path: Path) -> None:
    port = free_port()
    settings = {**rig.bare_settings(tmp_path, port), "engine": {"isolation": isolation}}
    config = tmp_path / "predawn.toml"
    config.write_text(rig.toml(settings), encoding="utf-8")
    command = ["-m", "predawn.server", "serve", "--config", str(config)]
    said = {"PYTHONPROFILEIMPORTTIME": "1"}  # also to the process of the models
    with Child(command, port, tmp_path / "server.log", said) as server:
        server.wait_ready("/readyz", rig.READY_S)
        log = server.log.read_text(encoding="utf-8")
    imported = {name.split(".")[0] for name in re.findall(r"^import time:.*\| +(\S+)$", log, re.M)}
    assert {"numpy", "aiohttp", "predawn"} <= imported
    assert not imported & HEAVY
