from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_cases import REQUESTS, same, written

from predawn.server.traces import (
    Trace,
    TraceError,
    Truth,
    read_trace,
    write_trace,
)

ids = st.integers(0, 2**64 - 1) | st.integers(0, 20)
texts = st.text(min_size=1, max_size=4)


@st.composite
def request_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Valid rows of one trace: one kind of user id, one kind of item id."""
    users, items = draw(st.sampled_from([(ids, ids), (texts, texts), (texts, ids)]))
    t_ms, rows = 0, []
    clicks = draw(st.booleans())
    for _ in range(draw(st.integers(1, 8))):
        t_ms += draw(st.integers(0, 10**6))
        shown = draw(st.lists(items, min_size=1, max_size=5, unique=True))
        row: dict[str, Any] = {"t_ms": t_ms, "user": draw(users), "items": shown}
        if clicks:
            row["clicked"] = [item for item in shown if draw(st.booleans())]
        if draw(st.booleans()):
            row["labels"] = {"like": [draw(st.sampled_from([0, 1, None])) for _ in shown]}
        if draw(st.booleans()):
            row["features"] = {"duration_s": [draw(st.integers(0, 99)) / 8 for _ in shown]}
        rows.append(row)
    return rows


@settings(max_examples=60, deadline=None)
@given(rows=request_rows(), suffix=st.sampled_from([".jsonl", ".jsonl.gz", ".parquet"]))
def test_writing_and_reading_gives_the_trace_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("trace")
    trace = read_trace(written(folder / "source.jsonl", rows))
    assert [trace.user(i) for i in range(len(trace))] == [row["user"] for row in rows]
    assert list(trace.item_ids) == [item for row in rows for item in row["items"]]
    copy = folder / f"copy{suffix}"
    write_trace(copy, trace)
    first = copy.read_bytes()
    same(trace, read_trace(copy))
    write_trace(copy, trace)
    assert copy.read_bytes() == first


def test_truth_lies_beside_the_trace_and_must_fit_it(tmp_path: Path) -> None:
    source = read_trace(written(tmp_path / "s.jsonl", REQUESTS))
    truth = Truth(np.ones((3, 2), np.float16), np.ones((10, 2), np.float32), 2.0, -1.5)
    path = tmp_path / "t.jsonl"
    write_trace(path, Trace(**{f: getattr(source, f) for f in source.__slots__} | {"truth": truth}))
    found = read_trace(path).truth
    assert found is not None and (found.scale, found.bias) == (2.0, -1.5)
    np.testing.assert_array_equal(found.user_vectors, truth.user_vectors)
    assert read_trace(path).slice(1, 2).truth is not None
    written(path, REQUESTS[:2])
    with pytest.raises(TraceError, match=r"truth\.npz: is of 3 requests, the trace has 2"):
        read_trace(path)
    (tmp_path / "t.jsonl.truth.npz").write_bytes(b"nonsense")
    with pytest.raises(TraceError, match="not a readable truth file"):
        read_trace(path)
    write_trace(path, source)
    assert read_trace(path).truth is None


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t.jsonl", REQUESTS))
    with pytest.raises(TraceError, match=r"unknown suffix '\.csv': use \.jsonl"):
        write_trace(tmp_path / "t.csv", trace)
