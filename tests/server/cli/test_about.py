"""`predawn version` and `predawn collect-env`."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from predawn.server.cli.app import build


def test_version_for_people_for_scripts_and_as_json() -> None:
    long = CliRunner().invoke(build(), ["version"]).stdout
    short = CliRunner().invoke(build(), ["version", "--short"]).stdout
    document = json.loads(CliRunner().invoke(build(), ["version", "--json", "-"]).stdout)
    assert long.startswith("predawn ") and "Python" in long
    assert short.strip() == document["predawn"] and set(document) == {"predawn", "python"}


def test_collect_env_tells_what_a_bug_report_needs() -> None:
    result = CliRunner().invoke(build(), ["collect-env", "--json", "-"])
    found = json.loads(result.stdout)
    assert found["cores"] >= 1 and found["memory_bytes"] > found["memory_available_bytes"] > 0
    assert found["packages"]["numpy"][0].isdigit() and found["kernel"] in result.stderr
    assert found["extensions"]["predawn.csrc._core"] == "built"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'H100, 81559 MiB, 570.1'", ["H100, 81559 MiB, 570.1"]),
        ("echo broken >&2; exit 9", ["nvidia-smi failed: broken"]),
    ],
)
def test_gpus_are_what_the_driver_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: list[str]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(build(), ["collect-env", "--json", "-"])
    assert json.loads(result.stdout)["gpus"] == expected


def test_without_a_driver_there_are_no_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(build(), ["collect-env", "--json", "-"])
    assert json.loads(result.stdout)["gpus"] == []
