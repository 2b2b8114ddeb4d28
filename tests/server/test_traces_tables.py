import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predawn.server.traces import TraceError, read_trace

HEADER = "user_id\tvideo_id\ttime_ms\tis_click\tlong_view\tduration_ms\tlabel\n"
ROWS = "9\t100\t50\t1\t0\t1500\t1\n9\t101\t70\t0\t1\t0\t0\n4\t100\t50\t0\t0\t36290\t1\n"


def test_kuairand_rows_are_sorted_by_time_and_stay_in_order_at_equal_times(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv.gz"
    path.write_bytes(gzip.compress((HEADER + ROWS).encode()))
    trace = read_trace(path)
    assert trace.t_ms.tolist() == [50, 50, 70]
    assert [trace.user(i) for i in range(3)] == [9, 4, 9]
    assert trace.items.tolist() == [100, 100, 101]
    assert trace.labels["click"].tolist() == [1, 0, 0]
    assert trace.labels["like"].tolist() == [1, 1, 0]
    assert trace.labels["long_view"].tolist() == [0, 0, 1]
    assert trace.item_feature_names == ("duration_s",)
    assert trace.item_features[:, 0].tolist() == pytest.approx([1.5, 36.29, 0.0])


def test_plain_separated_events_with_string_ids(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("t_ms,user,item\r\n7,ann,x\r\n3,bob,y\r\n")
    trace = read_trace(path)
    assert trace.users == ["bob", "ann"] and trace.item_ids == ["y", "x"]
    assert trace.labels == {}


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.tsv"
    path.write_bytes(HEADER.encode() + ROWS.encode() + b"\xff\t1\t2\t0\t0\t0\t1\n")
    with pytest.raises(TraceError, match="5: is not UTF-8"):
        read_trace(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER + ROWS + "9\t100\n", "5: has 2 fields, the header has 7"),
        (HEADER + ROWS.replace("70", "later"), "3: time_ms: needs an integer, got 'later'"),
        (HEADER + ROWS.replace("1500", "-1"), "2: duration_ms: needs an integer, got '-1'"),
        (HEADER + ROWS.replace("\t36290", "\t"), "4: duration_ms: needs an integer, got ''"),
        (HEADER, "holds no rows below its header"),
        ("user_id\tvideo_id\tis_click\n1\t2\t0\n", "1: malformed JSON"),
    ],
)
def test_bad_separated_rows_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text(text)
    with pytest.raises(TraceError, match=words):
        read_trace(path)


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_requests_with_lists(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "t.parquet",
        t_ms=[1, 2],
        user=["a", "b"],
        items=[[5, 6], [6]],
        clicked=[[6], []],
    )
    trace = read_trace(path)
    assert trace.users == ["a", "b"] and trace.items.tolist() == [5, 6, 6]
    assert trace.offsets.tolist() == [0, 2, 3] and trace.clicked.tolist() == [False, True, False]


def test_parquet_events_with_booleans(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "t.parquet", t_ms=[1, 2], user=[1, 1], item=["x", "y"], clicked=[False, True]
    )
    trace = read_trace(path)
    assert trace.item_ids == ["x", "y"] and trace.clicked.tolist() == [False, True]


def test_parquet_categories_are_read_as_their_values(tmp_path: Path) -> None:
    users = pa.array(["a", "b", "a"]).dictionary_encode()
    path = parquet(tmp_path / "t.parquet", t_ms=[1, 2, 3], user=users, item=[1, 2, 3])
    assert read_trace(path).users == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"t_ms": [1], "user": [1]}, "needs a column 'items'"),
        ({"user": [1], "item": [1]}, "needs a column 't_ms'"),
        ({"t_ms": [2, 1], "user": [1, 1], "item": [1, 1]}, "2: t_ms goes back: 1 after 2"),
        ({"t_ms": [1.5], "user": [1], "item": [1]}, "column 't_ms' needs integers, it has double"),
        ({"t_ms": [1], "user": [-3], "item": [1]}, "column 'user' has negative ids, e.g. -3"),
        ({"t_ms": [1], "user": [None], "item": [1]}, "column 'user' has nulls"),
        ({"t_ms": [1, 2], "user": [1, 1], "items": [[1], []]}, "2: items: needs at least one id"),
        ({"t_ms": [1, 2], "user": [1, 1], "items": [[1], [2, 3, 2]]}, "2: items: an id is there"),
        ({"t_ms": [1], "user": [1], "items": [[[7]]]}, "column 'items' needs integers, it has lis"),
        ({"t_ms": [1], "user": [1], "items": [[1.5]]}, "column 'items' needs integers, it has dou"),
        ({"t_ms": [1], "user": [1], "items": [[None]]}, "column 'items' has nulls"),
        ({"t_ms": [1], "user": [1], "items": [7]}, "column 'items' needs lists, it has int64"),
        (
            {"t_ms": [1, 2], "user": [1, 1], "items": [[1], [2]], "clicked": [[1], [1]]},
            "2: clicked: 1 is not among the items",
        ),
        (
            {"t_ms": [1], "user": [1], "items": [[1, 2]], "label.like": [[1.0]]},
            "1: label.like: needs one number per item",
        ),
        ({"t_ms": [1, 2], "user": [1, 1], "items": [[1], None]}, "2: items: needs a list, got nul"),
    ],
)
def test_bad_parquet_is_named(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    with pytest.raises(TraceError, match=words):
        read_trace(parquet(tmp_path / "t.parquet", **columns))


def test_empty_parquet_is_refused(tmp_path: Path) -> None:
    empty = pa.table({"t_ms": pa.array([], pa.int64()), "user": pa.array([], pa.int64())})
    pq.write_table(empty.append_column("item", pa.array([], pa.int64())), tmp_path / "t.parquet")
    with pytest.raises(TraceError, match="holds no requests"):
        read_trace(tmp_path / "t.parquet")
