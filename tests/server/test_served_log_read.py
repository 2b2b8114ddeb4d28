"""Reading the log back: what the ranker saw, to the last bit, or an error with file and row."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from served_log_cases import INPUTS, RANKER, asked, limits, log_of, user_of

from predawn.server.served_log_columns import Values
from predawn.server.served_log_read import (
    ServedRows,
    ranker_of,
    read_served,
    served_log,
    source_counts,
)
from predawn.server.traces_data import TraceError

ASKED = asked(20)


def rows_of(directory: Path) -> ServedRows:
    return read_served(served_log(directory), "ctr", lambda share: None)


@pytest.mark.parametrize(("values", "error"), [("fp32", 1e-6), ("fp16", 1e-2)])
def test_logged_scores_are_those_of_the_ranker_on_what_was_logged(
    tmp_path: Path, values: Values, error: float
) -> None:
    log_of(tmp_path, ASKED, limits(rows_per_file=7), values)
    rows = rows_of(tmp_path)
    again = RANKER.score(rows.batch())
    assert np.abs(again - rows.scores).max() < error
    served = np.concatenate([reply.task_scores for _, reply in ASKED])
    assert (rows.scores == served).all()


def test_every_column_comes_back(tmp_path: Path) -> None:
    log_of(tmp_path, ASKED)
    rows, requests = rows_of(tmp_path), [request for request, _ in ASKED]
    assert rows.users.tolist() == [user_of(number) for number in range(20)]
    assert rows.counts.tolist() == [len(request.item_hashes) for request in requests]
    assert (rows.items == np.concatenate([each.item_hashes for each in requests])).all()
    sources = np.concatenate([reply.pairs["side"].sources for _, reply in ASKED])
    assert (rows.pair_sources[:, 1] == sources).all()
    assert (rows.snapshots == 3).all() and (np.diff(rows.t_ms) >= 0).all()
    first = rows.shown[: rows.counts[0]]
    assert np.flatnonzero(first).tolist() == sorted(ASKED[0][1].order.tolist())


def test_some_requests_have_their_own_candidates(tmp_path: Path) -> None:
    log_of(tmp_path, ASKED)
    rows = rows_of(tmp_path)
    part = rows.take(np.array([11, 4]))
    assert part.users.tolist() == [user_of(11), user_of(4)]
    expected = np.concatenate([ASKED[11][0].item_hashes, ASKED[4][0].item_hashes])
    assert (part.items == expected).all() and len(part.scores) == len(expected)


def test_the_only_ranker_is_the_one_meant_and_of_several_one_is_named(tmp_path: Path) -> None:
    log_of(tmp_path, ASKED)
    files = served_log(tmp_path)
    assert ranker_of(files, "ctr")[0] == "ctr"
    with pytest.raises(TraceError, match="several rankers, name one: ctr, other"):
        ranker_of(files, None)
    with pytest.raises(TraceError, match="no ranker 'view'"):
        ranker_of(files, "view")
    with pytest.raises(TraceError, match="no rows of ranker 'other'"):
        read_served(files, "other", lambda share: None)


def test_a_log_of_ids_cannot_be_learned_from_and_says_so(tmp_path: Path) -> None:
    log_of(tmp_path, ASKED, values="ids")
    with pytest.raises(TraceError, match="has no embeddings"):
        ranker_of(served_log(tmp_path), "ctr")


def test_shares_of_sources_are_counted_without_the_embeddings(tmp_path: Path) -> None:
    log_of(tmp_path, ASKED, values="ids")
    counts = dict(source_counts(served_log(tmp_path)[0]))
    some = np.concatenate([reply.pairs["fm"].sources for _, reply in ASKED[:8]])
    total = np.sum([dict(source_counts(file))["fm"] for file in served_log(tmp_path)], axis=0)
    every = np.concatenate([reply.pairs["fm"].sources for _, reply in ASKED])
    assert (total == np.bincount(every, minlength=8)).all()
    assert (counts["fm"] == np.bincount(some, minlength=8)).all()
    assert counts["second"].sum() == 0


def test_a_directory_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="has no files"):
        served_log(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1" + bytes(100), b"not a table"])
def test_a_torn_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "served-0000000000001-1.parquet"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"served-0.*not a readable Parquet file"):
        served_log(tmp_path)


def test_another_table_is_no_log(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "served-0000000000001-1.parquet")
    with pytest.raises(TraceError, match="not of a served-feature log"):
        served_log(tmp_path)


def broken(directory: Path, column: str, row: int, value: Any) -> None:
    """A log of one file, whose row (from 0) has another value in a column."""
    log_of(directory, ASKED, limits(rows_per_file=100))
    (path,) = directory.iterdir()
    table = pq.read_table(path)
    values = table.column(column).to_pylist()
    values[row] = value(values[row])
    at = table.schema.get_field_index(column)
    changed = table.set_column(at, table.field(at), pa.array(values, table.field(at).type))
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("pairs.fm.sources", lambda old: [*old, 0], r"pairs.fm.sources has \d values for"),
        ("pairs.side.embeddings", lambda old: old[1:], r"side.embeddings has \d values for"),
        ("score.click", lambda old: None, "score.click is null"),
        ("user.sum.embedding", lambda old: [np.inf, *old[1:]], "a value that is not finite"),
        ("pairs.fm.embeddings", lambda old: [[np.nan] * 16 for _ in old], "is not finite"),
        ("order", lambda old: [9], "order names no candidate"),
    ],
)
def test_a_row_that_does_not_hold_together_is_named(
    tmp_path: Path, column: str, value: Any, said: str
) -> None:
    broken(tmp_path, column, 12, value)
    with pytest.raises(TraceError, match=said) as caught:
        rows_of(tmp_path)
    assert caught.value.line == 13 and caught.value.path.endswith(".parquet")


def test_a_ranker_that_read_other_inputs_before_is_named_with_its_file(tmp_path: Path) -> None:
    log_of(tmp_path, ASKED[:8])
    (path,) = tmp_path.iterdir()
    old = pq.read_table(path)
    text = old.schema.metadata[b"predawn.served_log"].replace(b'"fm":16', b'"fm":8')
    pq.write_table(old.replace_schema_metadata({b"predawn.served_log": text}), path)
    log_of(tmp_path, ASKED[8:])
    with pytest.raises(TraceError, match="read other inputs"):
        ranker_of(served_log(tmp_path), "ctr")


def test_what_a_ranker_reads_is_in_every_file(tmp_path: Path) -> None:
    log_of(tmp_path, ASKED)
    assert {file.layout.rankers["ctr"] for file in served_log(tmp_path)} == {INPUTS}
