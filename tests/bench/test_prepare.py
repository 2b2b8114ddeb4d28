"""Preparation is done once per size and code, and a damaged result is made anew."""

from pathlib import Path

import numpy as np
import pytest

from predawn.bench import prepare
from predawn.bench.prepare import SMALL


def _steps(folder: Path) -> tuple[prepare.Prepared, set[str]]:
    steps: set[str] = set()
    prepared = prepare.prepare(SMALL, folder, lambda step, share: steps.add(step))
    return prepared, steps


def test_models_are_trained_once_and_again_when_damaged(state: str) -> None:
    folder = prepare.state_dir() / "models"
    prepared, _ = _steps(folder)
    assert prepared.snapshot.is_relative_to(state)
    assert len(prepared.past) and len(prepared.live)
    assert int(prepared.past.t_ms[-1]) <= int(prepared.live.t_ms[0])

    again, steps = _steps(folder)
    assert steps == {"workload"}
    assert np.array_equal(again.live.items, prepared.live.items)

    for file in prepared.snapshot.rglob("*.safetensors"):
        file.write_bytes(b"damaged")
    _, steps = _steps(folder)
    assert "training" in steps


def test_state_goes_to_the_project_or_the_users_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare.state_dir() != tmp_path / "xdg" / "predawn"
    monkeypatch.delenv("PREDAWN_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    assert prepare.state_dir() == tmp_path / "xdg" / "predawn"
    (tmp_path / "pyproject.toml").touch()
    assert prepare.state_dir() == tmp_path / ".state"
