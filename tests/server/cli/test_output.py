"""JSON for machines, tables for people, never mixed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from predawn.server.cli.output import Output, progress
from predawn.server.errors import ConfigError


def test_with_a_dash_json_is_alone_on_standard_output(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    output = Output("-")
    output.console.print("table")
    output.document({"a": np.float32(0.5), "b": math.nan})
    captured = capsysbinary.readouterr()
    assert captured.err == b"table\n"
    assert json.loads(captured.out) == {"a": 0.5, "b": None}


def test_with_a_path_json_goes_there_a_line_each(tmp_path: Path) -> None:
    Output(str(tmp_path / "rows.jsonl")).lines([{"a": 1}, {"a": 2}])
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"a": 2}]


def test_without_it_people_alone_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(None)
    output.console.print("table")
    output.document({"a": 1})
    assert capsys.readouterr() == ("table\n", "")


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--json: .*Is a directory"):
        Output(str(tmp_path)).document({})


def test_progress_is_shown_on_standard_error_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as step:
        step("reading", 0.5)
        step("reading", 1.0)
        step("training", 0.25)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "reading" in captured.err and "100%" in captured.err and "25%" in captured.err
