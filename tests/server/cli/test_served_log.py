"""`predawn served-log`: files and shares as they are, for people and for machines."""

import json
from pathlib import Path

import pytest
from training_log_cases import served, write_log
from typer.testing import CliRunner

from predawn.server.cli.app import build


def test_files_and_shares_are_shown_and_in_the_json(tmp_path: Path) -> None:
    write_log(tmp_path, served(200))
    shown = CliRunner().invoke(build(), ["served-log", str(tmp_path)])
    assert shown.exit_code == 0, shown.stderr
    assert "2 files, 200 requests" in shown.stdout and "neighbour" in shown.stdout
    written = CliRunner().invoke(build(), ["served-log", str(tmp_path), "--json", "-"])
    found = json.loads(written.stdout)
    assert [file["requests"] for file in found["files"]] == [100, 100]
    assert found["files"][0]["bytes"] > 0 and found["files"][0]["rankers"] == ["ctr"]
    assert found["sources"]["sum"] == {"direct": 1.0}
    shares = found["sources"]["fm"]
    assert shares["direct"] == pytest.approx(0.35, abs=0.05)
    assert sum(shares.values()) == pytest.approx(1)


def test_a_directory_without_a_log_is_a_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(build(), ["served-log", str(tmp_path)])
    assert result.exit_code == 1 and "has no files" in result.stderr
    assert "Traceback" not in result.stderr
