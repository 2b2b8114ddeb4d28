from pathlib import Path
from typing import Any

import orjson
import pytest
from trace_cases import lines_of

from predawn.server.traces import (
    TraceError,
    read_trace,
)

GOOD = {"t_ms": 5, "user": 7, "items": [3, 4]}


@pytest.mark.parametrize(
    ("bad", "line", "words"),
    [
        (b'{"t_ms": 6, "user"', 2, "malformed JSON"),
        (b"[1, 2]", 2, "needs an object, got list"),
        ({"user": 7, "items": [3]}, 2, "'t_ms' is missing"),
        ({"t_ms": 6, "items": [3]}, 2, "'user' is missing"),
        ({"t_ms": 6, "user": 7}, 2, "'items' (a list) or 'item' (one id) is missing"),
        ({"t_ms": 4, "user": 7, "items": [3]}, 2, "t_ms goes back: 4 after 5"),
        ({"t_ms": 6.5, "user": 7, "items": [3]}, 2, "t_ms: needs integer milliseconds, got 6.5"),
        ({"t_ms": True, "user": 7, "items": [3]}, 2, "t_ms: needs integer milliseconds, got True"),
        ({"t_ms": "6", "user": 7, "items": [3]}, 2, "t_ms: needs integer milliseconds, got '6'"),
        ({"t_ms": 2**63, "user": 7, "items": [3]}, 2, "t_ms: needs integer milliseconds"),
        ({"t_ms": 6, "user": -1, "items": [3]}, 2, "user: needs an integer in 0.."),
        ({"t_ms": 6, "user": None, "items": [3]}, 2, "user: needs an integer in 0.."),
        ({"t_ms": 6, "user": "a", "items": [3]}, 2, "user: integer and string ids are mixed"),
        ({"t_ms": 6, "user": 7, "items": "34"}, 2, "items: needs a list of ids, got '34'"),
        ({"t_ms": 6, "user": 7, "items": []}, 2, "items: needs at least one id"),
        ({"t_ms": 6, "user": 7, "items": [1, True]}, 2, "items[1]: needs an integer in 0.."),
        ({"t_ms": 6, "user": 7, "items": [1, -2]}, 2, "items[1]: needs an integer in 0.."),
        ({"t_ms": 6, "user": 7, "items": [1, "b"]}, 2, "items[1]: integer and string ids are"),
        ({"t_ms": 6, "user": 7, "items": [1, 2, 1]}, 2, "items[2]: 1 is there twice"),
        ({"t_ms": 6, "user": 7, "item": None}, 2, "item: needs an integer in 0.."),
        ({"t_ms": 6, "user": 7, "items": [1], "clicked": [2]}, 2, "clicked[0]: 2 is not among"),
        ({"t_ms": 6, "user": 7, "items": [1], "clicked": 1}, 2, "clicked: needs a list of ids"),
        ({"t_ms": 6, "user": 7, "items": [1], "labels": 3}, 2, "labels: needs an object"),
        (
            {"t_ms": 6, "user": 7, "items": [1], "labels": {"like": [1, 0]}},
            2,
            "labels.like: needs 1 numbers, one per item",
        ),
        (
            {"t_ms": 6, "user": 7, "items": [1], "features": {"x": ["1"]}},
            2,
            "features.x[0]: needs a number or null, got '1'",
        ),
    ],
)
def test_bad_rows_are_named_by_file_line_and_reason(
    tmp_path: Path, bad: Any, line: int, words: str
) -> None:
    path = tmp_path / "bad.jsonl"
    text = bad if isinstance(bad, bytes) else orjson.dumps(bad)
    path.write_bytes(lines_of([GOOD]) + text + b"\n" + lines_of([{**GOOD, "t_ms": 99}]))
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert caught.value.line == line
    assert words in caught.value.reason
    assert str(caught.value).startswith(f"{path}:{line}: ")
