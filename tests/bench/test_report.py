"""Rows come out as JSON lines and as a table that leaves nothing out."""

import io
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from predawn.bench import report
from predawn.bench.harness import Stamp

MARK = Stamp("codec", "abc", "cpu x2")
ROWS = [
    MARK.row("decode", "time", 1234.5, "ns/call", limit=100.0, peer="orjson", ratio=0.5, n=9),
    MARK.row("decode", "time", 1234.5, "ns/call", peer="rows[i] =", ratio=0.25, n=9),
    MARK.row("decode", "time_spread", 0.07, "share", n=9),
    MARK.row("machine", "stall_share", 0.0, "share"),
]


def test_json_is_one_object_a_line(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    report.write_json(ROWS, str(tmp_path / "rows.jsonl"))
    lines = (tmp_path / "rows.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line) for line in lines] == [row.as_json() for row in ROWS]
    report.write_json(ROWS, "-")
    assert capfdbinary.readouterr().out.splitlines() == lines


def test_table_has_every_figure() -> None:
    out = io.StringIO()
    report.show(ROWS, Console(file=out, width=200), "quiet machine")
    text = out.getvalue()
    for said in ("decode", "1,234", "ns/call", "7%", "8%", "orjson", "0.50", "quiet machine"):
        assert said in text, said
    assert text.count("1,234") == 1  # a second peer does not repeat the figure
    assert "rows[i] =" in text


def test_tables_leave_standard_output_to_json() -> None:
    assert report.people_console("-").stderr
    assert not report.people_console(None).stderr


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (4.567, "4.57"), (12345.6, "12,346")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert report.figure(value) == text
