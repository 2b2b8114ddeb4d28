"""Batches, checks and the order of one request's candidates."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.errors import DeadlineExceeded, InferenceError
from predawn.server.pipeline_rank import (
    ServedRanker,
    rank_batch,
    scored,
    scored_or_as_sent,
    top_k,
)
from predawn.server.request import F32, RankBatch, RankRequest, Source, UserRow


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32), min_size=1),
    st.integers(0, 12),
)
def test_top_k_equals_a_stable_sort(values: list[float], k: int) -> None:
    scores = np.array(values, dtype=np.float32)
    expected = sorted(range(len(values)), key=lambda i: (-scores[i], i))
    got = top_k(scores, k)
    assert got.dtype == np.int64
    assert got.tolist() == (expected[:k] if k else expected)


def test_a_batch_joins_the_rows_in_order_and_keeps_their_sources() -> None:
    request = RankRequest(
        user=1,
        item_hashes=np.array([4, 5, 6], dtype=np.uint64),
        item_features=np.ones((3, 2), dtype=np.float32),
        ranker="",
        deadline_ns=0,
        top_k=0,
    )
    rows = [
        UserRow(Source.STALE, 3, np.array([1, 2], dtype=np.float32)),
        UserRow(Source.DEFAULT, -1, np.array([7], dtype=np.float32)),
    ]
    batch = rank_batch(request, rows)
    assert batch.user.dtype == np.float32 and batch.user.tolist() == [[1, 2, 7]]
    assert batch.sources.dtype == np.uint8 and batch.sources.tolist() == [[2, 6]]
    assert batch.offsets.tolist() == [0, 3]
    assert batch.item_hashes.tolist() == [4, 5, 6]


BATCH = RankBatch(
    user=np.zeros((1, 1), dtype=np.float32),
    sources=np.zeros((1, 1), dtype=np.uint8),
    offsets=np.array([0, 2], dtype=np.int64),
    item_hashes=np.array([1, 2], dtype=np.uint64),
    item_features=np.zeros((2, 0), dtype=np.float32),
)


class Ranker:
    tasks = ("click",)
    item_features: tuple[str, ...] = ()

    def __init__(self, scores: Any, inline: bool = True) -> None:
        self.scores = scores
        self.inline = inline

    def score(self, batch: RankBatch) -> F32:
        if isinstance(self.scores, Exception):
            raise self.scores
        result: F32 = self.scores
        return result


def run(scores: Any, inline: bool = True, left_s: float = 1.0, takes_s: float = 0.0) -> F32:
    ranker = ServedRanker("ctr", Ranker(scores, inline), ("m",))

    async def off_loop(name: str, batch: RankBatch) -> F32:
        assert name == "ctr"
        await asyncio.sleep(takes_s)
        return ranker.model.score(batch)

    return asyncio.run(scored(ranker, BATCH, off_loop, left_s))


GOOD = np.array([[0.5], [0.25]], dtype=np.float32)


@pytest.mark.parametrize("inline", [True, False])
def test_good_scores_pass_on_and_off_the_loop(inline: bool) -> None:
    assert run(GOOD, inline) is GOOD


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (GOOD[:1], r"returned float32 \[1, 1\], expected float32 \[2, 1\]"),
        (GOOD.astype(np.float64), "returned float64"),
        (None, "returned NoneType"),
        (np.array([[0.5], [np.nan]], dtype=np.float32), "a score is not finite"),
        (RuntimeError("weights are gone"), "RuntimeError: weights are gone"),
    ],
)
def test_whatever_a_ranker_does_wrong_is_an_inference_error_with_its_name(
    scores: Any, reason: str, inline: bool
) -> None:
    with pytest.raises(InferenceError, match=f"model 'ctr': {reason}"):
        run(scores, inline)


@pytest.mark.parametrize("left_s", [0.01, 0.0, -1.0])
def test_a_ranker_off_the_loop_is_not_waited_for_beyond_the_time_left(left_s: float) -> None:
    with pytest.raises(DeadlineExceeded, match="ranker 'ctr' had no scores by the deadline"):
        run(GOOD, inline=False, left_s=left_s, takes_s=30)


@pytest.mark.parametrize("inline", [True, False])
def test_a_ranker_that_may_fail_leaves_the_order_as_sent_and_says_why(inline: bool) -> None:
    ranker = ServedRanker(
        "ctr", Ranker(RuntimeError("gone"), inline), ("m",), as_sent_on_failure=True
    )

    async def off_loop(name: str, batch: RankBatch) -> F32:
        return ranker.model.score(batch)

    scores, failure = asyncio.run(scored_or_as_sent(ranker, BATCH, off_loop, 1.0))
    assert scores.dtype == np.float32 and scores.tolist() == [[0.0], [0.0]]
    assert top_k(scores[:, 0], 0).tolist() == [0, 1]
    assert "ctr" in failure and "gone" in failure


def test_the_last_batches_of_an_inline_ranker_are_kept_for_its_next_version() -> None:
    async def off_loop(name: str, batch: RankBatch) -> F32:
        return GOOD

    async def main() -> None:
        inline, other = (ServedRanker("r", Ranker(GOOD, at), ("m",)) for at in (True, False))
        for number in range(40):
            batch = replace(BATCH, item_hashes=np.array([number, 0], dtype=np.uint64))
            for ranker in (inline, other):
                await scored(ranker, batch, off_loop, 1.0)
        kept = [int(batch.item_hashes[0]) for batch in inline.recent]
        assert kept == list(range(32, 40)) and not other.recent

    asyncio.run(main())
