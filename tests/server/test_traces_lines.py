from pathlib import Path
from typing import Any

import orjson
import pytest

from predawn.server.traces import TraceError, read_trace


def sessions(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    return path


def event(aid: int, ts: int, kind: str = "clicks") -> dict[str, Any]:
    return {"aid": aid, "ts": ts, "type": kind}


def test_otto_sessions_become_events_in_time_order(tmp_path: Path) -> None:
    rows = [
        {"session": 5, "events": [event(1, 10), event(2, 30, "carts"), event(2, 30, "orders")]},
        {"session": 6, "events": [event(1, 20)]},
    ]
    trace = read_trace(sessions(tmp_path / "o.jsonl", rows))
    assert trace.t_ms.tolist() == [10, 20, 30, 30]
    assert [trace.user(i) for i in range(4)] == [5, 6, 5, 5]
    assert trace.items.tolist() == [1, 1, 2, 2] and trace.clicked.all()
    assert trace.labels["cart"].tolist() == [0, 0, 1, 0]
    assert trace.labels["order"].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"session": 1}, "field 'events' is missing"),
        ({"events": [event(1, 1)]}, "field 'session' is missing"),
        ({"session": 1.5, "events": [event(1, 1)]}, "session: needs an integer in"),
        ({"session": 1, "events": []}, "events: needs a list of events"),
        ({"session": 1, "events": [3]}, r"events\[0\]: needs an object, got 3"),
        ({"session": 1, "events": [event(1, 1), {"aid": 2}]}, r"events\[1\]\.ts is missing"),
        ({"session": 1, "events": [event(1, 1, "views")]}, r"events\[0\]\.type: needs clicks"),
        ({"session": 1, "events": [event(-1, 1)]}, r"events\[0\]\.aid: needs an integer in"),
    ],
)
def test_bad_otto_sessions_are_named(tmp_path: Path, bad: Any, words: str) -> None:
    good = {"session": 5, "events": [event(1, 10)]}
    with pytest.raises(TraceError, match=f":2: {words}"):
        read_trace(sessions(tmp_path / "o.jsonl", [good, bad]))
