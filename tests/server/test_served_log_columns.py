"""The columns of the served-feature log: one row a request, as any reader of Parquet sees it."""

import numpy as np
import pyarrow as pa
import pytest
from served_log_cases import PARTS, RANKER, asked, layout

from predawn.server.request import RankReply, RankRequest, Source, UserRow
from predawn.server.served_log_columns import Layout, Seen, Values, batch_of, layout_of

ASKED = asked(6)


def batch(values: Values, rows: list[tuple[RankRequest, RankReply]] = ASKED) -> pa.RecordBatch:
    seen = [Seen(1000 + number, 7, *each) for number, each in enumerate(rows)]
    made = batch_of(layout(values), seen)
    made.validate(full=True)
    return made


def test_a_row_says_who_was_asked_for_what_and_what_came_out() -> None:
    request, reply = ASKED[4]
    row = batch("fp32").to_pylist()[4]
    assert reply.task_scores is not None
    assert row["t_ms"] == 1004 and row["request_id"] == "r-4"
    assert (row["ranker"], row["ranker_version"], row["degraded"]) == ("ctr", 7, False)
    assert (row["user"], row["user_text"]) == (2**64 - 5, None)
    assert row["items"] == request.item_hashes.tolist() and row["order"] == reply.order.tolist()
    for at, name in enumerate(RANKER.tasks):
        assert row[f"score.{name}"] == reply.task_scores[:, at].tolist()
    for at, name in enumerate(RANKER.item_features):
        assert row[f"feature.{name}"] == request.item_features[:, at].tolist()


def test_a_string_user_is_a_string() -> None:
    row = batch("ids").to_pylist()[3]
    assert (row["user"], row["user_text"]) == (None, "user 3")


@pytest.mark.parametrize(("values", "error"), [("fp32", 0.0), ("fp16", 2e-3)])
def test_embeddings_are_kept_with_source_age_and_version(values: Values, error: float) -> None:
    _, reply = ASKED[2]
    row = batch(values).to_pylist()[2]
    user, pairs = reply.users["sum"], reply.pairs["side"]
    assert row["user.sum.source"] == user.source and row["user.sum.age_ms"] == 42
    assert row["user.sum.snapshot"] == 3
    np.testing.assert_allclose(row["user.sum.embedding"], user.row, rtol=error)
    assert row["pairs.side.sources"] == pairs.sources.tolist()
    assert row["pairs.side.ages_ms"] == pairs.ages_ms.tolist()
    np.testing.assert_allclose(row["pairs.side.embeddings"], pairs.rows, rtol=error, atol=1e-6)


def test_ids_alone_leave_sources_and_ages_but_no_embedding() -> None:
    names = batch("ids").schema.names
    assert not [name for name in names if "embedding" in name]
    assert {"user.sum.source", "pairs.fm.sources", "pairs.fm.ages_ms"} < set(names)


def test_what_a_ranker_does_not_read_is_null() -> None:
    request = RankRequest(1, PARTS.items.hashes[:2], np.ones((2, 1), np.float32), "other", 0, 0)
    scores = np.ones((2, 1), np.float32)
    rows = {
        "sum": UserRow(Source.DIRECT, 5, np.ones(RANKER._shape.user, np.float32), 1),
        "second": UserRow(Source.DEFAULT, -1, np.ones(3, np.float32)),
    }
    reply = RankReply(np.arange(2), scores[:, 0], rows, False, scores, ("view",))
    first, second = batch("fp32", [ASKED[0], (request, reply)]).to_pylist()
    assert first["user.second.source"] is None and first["user.second.embedding"] is None
    assert first["score.view"] is None and first["feature.duration_s"] is not None
    assert second["score.view"] == [1, 1] and second["score.click"] is None
    assert second["feature.duration_s"] is None and second["feature.price"] == [1, 1]
    assert second["pairs.fm.sources"] is None and second["pairs.fm.embeddings"] is None
    assert second["user.second.embedding"] == [1, 1, 1]


def test_what_fp16_cannot_hold_is_infinite_and_warns_nobody() -> None:
    request, reply = asked(1)[0]
    reply.users["sum"].row = np.full_like(reply.users["sum"].row, 1e6)
    assert np.isinf(batch("fp16", [(request, reply)]).to_pylist()[0]["user.sum.embedding"]).all()


@pytest.mark.parametrize("values", ["fp16", "fp32", "ids"])
def test_the_schema_says_what_the_layout_was(values: Values) -> None:
    made: Layout = layout(values)
    assert layout_of(made.schema().metadata) == made


@pytest.mark.parametrize("metadata", [None, {}, {b"predawn.served_log": b"[]"}])
def test_other_metadata_are_refused(metadata: dict[bytes, bytes] | None) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        layout_of(metadata)
