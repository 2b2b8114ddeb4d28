"""`predawn workload`: every option changes the trace, and the same options give the same bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from predawn.server.cli.app import build
from predawn.server.traces import Trace, read_trace

SMALL = ["--users", "60", "--hours", "3", "--seed", "1"]


def made(out: Path, *arguments: str) -> dict[str, Any]:
    """The JSON of a run that worked."""
    result = CliRunner().invoke(build(), ["workload", "--out", str(out), "--json", "-", *arguments])
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_it_writes_a_trace_with_its_truth_and_says_what_is_in_it(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl.gz"
    document = made(out, *SMALL)
    trace = read_trace(out)
    assert document["requests"] == len(trace) > 0 and document["out"] == str(out)
    assert document["rows"] == trace.rows and trace.truth is not None


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    made(a, *SMALL)
    made(b, *SMALL)
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize(
    "option",
    [
        ("--users", "50"),
        ("--hours", "2"),
        ("--seed", "2"),
        ("--ctr", "ads"),
        ("--candidates", "10"),
        ("--bursts", "severe"),
        ("--activity-sigma", "1.4"),
        ("--drift-half-life-h", "1"),
    ],
)
def test_every_option_changes_the_trace(tmp_path: Path, option: tuple[str, str]) -> None:
    plain, other = tmp_path / "plain.jsonl", tmp_path / "other.jsonl"
    made(plain, *SMALL)
    made(other, *SMALL, *option)
    assert contents(read_trace(plain)) != contents(read_trace(other))


def contents(trace: Trace) -> tuple[object, ...]:
    """What is in a trace, comparable."""
    assert trace.truth is not None
    arrays = (trace.t_ms, trace.offsets, trace.items, trace.clicked, trace.truth.user_vectors)
    return tuple(array.tobytes() for array in arrays)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--out", "a.txt"], 1, "unknown suffix"),
        (["--users", "0", "--out", "a.jsonl"], 2, "--users"),
        ([], 2, "--out"),
        (["--ctr", "lots", "--out", "a.jsonl"], 2, "--ctr"),
        (["--hours", "inf", "--out", "a.jsonl"], 2, "--hours"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(build(), ["workload", "--users", "3", "--hours", "1", *arguments])
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
    assert not list(tmp_path.iterdir())
