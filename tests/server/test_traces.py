import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trace_cases import REQUESTS, lines_of, same, written

from predawn.server.traces import (
    EVENT_TYPES,
    TraceError,
    event_types,
    read_trace,
)


def test_requests_become_jagged_columns(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t.jsonl", REQUESTS))
    assert len(trace) == 3 and trace.rows == 6
    assert trace.t_ms.tolist() == [5, 5, 9]
    assert trace.offsets.tolist() == [0, 3, 4, 6]
    assert [trace.user(i) for i in range(3)] == [7, 2**64 - 1, 7]
    assert trace.items.dtype == np.uint64 and trace.items.tolist() == [3, 4, 9, 0, 4, 2**64 - 1]
    assert trace.clicked.tolist() == [True, False, True, False, False, False]
    assert trace.labels["click"].tolist() == [1, 0, 1, 0, 0, 0]
    assert trace.truth is None


def test_a_trace_without_clicks_has_no_click_label(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t.jsonl", [{"t_ms": 0, "user": 1, "items": [1]}]))
    assert trace.labels == {} and not trace.clicked.any()


def test_gzip_is_seen_by_content_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "no-suffix"
    path.write_bytes(gzip.compress(b"\n" + lines_of(REQUESTS) + b"  \n"))
    same(read_trace(path), read_trace(written(tmp_path / "t.jsonl", REQUESTS)))


def test_plain_events_are_requests_of_one_item(tmp_path: Path) -> None:
    rows = [
        {"t_ms": 1, "user": "u", "item": "a", "clicked": True},
        {"t_ms": 2, "user": "u", "item": "b", "clicked": 0},
        {"t_ms": 3, "user": "v", "item": "a"},
        {"t_ms": 4, "user": "v", "items": ["b"], "clicked": ["b"]},
    ]
    trace = read_trace(written(tmp_path / "t.jsonl", rows))
    assert trace.users == ["u", "u", "v", "v"] and trace.item_ids == ["a", "b", "a", "b"]
    assert trace.clicked.tolist() == [True, False, False, True]
    assert trace.items[0] == trace.items[2] != trace.items[1]


def test_labels_and_features_are_read_per_item(tmp_path: Path) -> None:
    rows = [
        {"t_ms": 1, "user": 1, "items": [1, 2], "labels": {"like": [1, None]}},
        {"t_ms": 2, "user": 1, "items": [3], "features": {"duration_s": [9.5]}},
    ]
    trace = read_trace(written(tmp_path / "t.jsonl", rows))
    np.testing.assert_array_equal(trace.labels["like"], np.array([1, np.nan, np.nan], np.float32))
    assert trace.item_feature_names == ("duration_s",)
    assert trace.item_features.tolist() == [[0.0], [0.0], [9.5]]


def test_faults_are_found_across_blocks(tmp_path: Path) -> None:
    rows: list[Any] = [{"t_ms": i, "user": 7, "items": [3]} for i in range(20_000)]
    back = written(tmp_path / "back.jsonl", [*rows, {"t_ms": 3, "user": 7, "items": [3]}])
    with pytest.raises(TraceError, match="20001: t_ms goes back: 3 after 19999"):
        read_trace(back)
    mixed = written(tmp_path / "mixed.jsonl", [*rows, {"t_ms": 99_999, "user": "7", "items": [3]}])
    with pytest.raises(TraceError, match="20001: user: integer and string ids are mixed"):
        read_trace(mixed)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such file"):
        read_trace(tmp_path / "absent.jsonl")
    for name, content, words in (
        ("empty.jsonl", b"", "is empty"),
        ("blank.jsonl", b"\n\n", "holds no requests"),
        ("cut.jsonl.gz", gzip.compress(lines_of(REQUESTS) * 99)[:-20], "cannot be read"),
        ("bad.parquet", b"PAR1 and then nonsense", "not a readable Parquet file"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(TraceError, match=words):
            read_trace(path)
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path)


def test_event_types_say_what_a_row_becomes(tmp_path: Path) -> None:
    rows = [
        {
            "t_ms": 1,
            "user": 1,
            "items": [1, 2, 3],
            "clicked": [2],
            "labels": {"like": [1, 0, None], "long_view": [0, 1, 1]},
        }
    ]
    trace = read_trace(written(tmp_path / "t.jsonl", rows))
    names = [
        [name for bit, name in enumerate(EVENT_TYPES) if bits >> bit & 1]
        for bits in event_types(trace).tolist()
    ]
    assert names == [
        ["shown", "liked"],
        ["shown", "clicked", "hated", "long_view"],
        ["shown", "long_view"],
    ]
    assert event_types(trace, ["bought", "clicked"]).tolist() == [0, 2, 0]
