"""From user rows and candidates to checked scores and an order.

Invariant: scores that leave here are float32, finite, one row per candidate; whatever a ranker does
wrong is an `InferenceError` with its name, or, where it is set so, leaves the order as it was sent.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from predawn.server.engine import checked_rows
from predawn.server.errors import DeadlineExceeded, InferenceError
from predawn.server.models.contract import RankerModel
from predawn.server.request import F32, I64, U8, PairRows, RankBatch, RankRequest, UserRow

OffLoop: TypeAlias = Callable[[str, RankBatch], Awaitable[F32]]
"""Runs a ranker, by name, that is not cheap enough for the loop: `Engine.score`."""

_LOG = logging.getLogger(__name__)
_RECENT = 8  # their memory is held: 10,000 candidates with pairs are megabytes each
_NO_PAIRS: tuple[F32, U8] = (
    np.zeros((0, 0), dtype=np.float32),
    np.zeros((0, 0), dtype=np.uint8),
)


@dataclass(frozen=True, slots=True)
class ServedRanker:
    """A configured ranker. user_models, pair_models: whose rows it reads, in its order; task: the
    column of its scores that ranks. as_sent_on_failure: then every score is 0 and the order stays.
    recent: the last batches of an inline ranker, which a new version of it is tried on before it
    serves."""

    name: str
    model: RankerModel
    user_models: tuple[str, ...]
    task: int = 0
    pair_models: tuple[str, ...] = ()
    as_sent_on_failure: bool = False
    recent: deque[RankBatch] = field(default_factory=lambda: deque(maxlen=_RECENT), compare=False)


def rank_batch(
    request: RankRequest, rows: Sequence[UserRow], pairs: Sequence[PairRows] = ()
) -> RankBatch:
    """The batch of one request; `rows` in the ranker's order of user models, `pairs` in that of
    its pair models."""
    count = len(request.item_hashes)
    pair_rows, pair_sources = _side_by_side(pairs)
    return RankBatch(
        user=np.concatenate([row.row for row in rows]).reshape(1, -1),
        sources=np.array([[row.source for row in rows]], dtype=np.uint8),
        offsets=np.array([0, count], dtype=np.int64),
        item_hashes=request.item_hashes,
        item_features=request.item_features,
        pairs=pair_rows,
        pair_sources=pair_sources,
    )


def _side_by_side(pairs: Sequence[PairRows]) -> tuple[F32, U8]:
    """Rows [n, sum of dims] and sources [n, models]; [0, 0] of no models."""
    if len(pairs) == 1:
        return pairs[0].rows, pairs[0].sources.reshape(-1, 1)
    if not pairs:
        return _NO_PAIRS
    rows = np.concatenate([each.rows for each in pairs], axis=1)
    return rows, np.stack([each.sources for each in pairs], axis=1)


async def scored(ranker: ServedRanker, batch: RankBatch, off_loop: OffLoop, left_s: float) -> F32:
    """float32 [R, tasks]. An inline ranker runs here; another gets `left_s` seconds elsewhere, then
    DeadlineExceeded: without scores there is nothing to answer."""
    try:
        if ranker.model.inline:
            ranker.recent.append(batch)
            scores = ranker.model.score(batch)
        else:
            async with asyncio.timeout(max(0.0, left_s)):
                scores = await off_loop(ranker.name, batch)
    except TimeoutError as error:
        reason = f"ranker {ranker.name!r} had no scores by the deadline"
        raise DeadlineExceeded(reason) from error
    except InferenceError:
        raise
    except Exception as error:
        raise InferenceError(ranker.name, f"{type(error).__name__}: {error}") from error
    shape = (len(batch.item_hashes), len(ranker.model.tasks))
    checked = checked_rows(ranker.name, scores, shape)
    if not np.isfinite(checked).all():
        raise InferenceError(ranker.name, "a score is not finite")
    return checked


async def scored_or_as_sent(
    ranker: ServedRanker, batch: RankBatch, off_loop: OffLoop, left_s: float
) -> tuple[F32, str]:
    """What `scored` gives and "", or zeros and why the ranker failed where `as_sent_on_failure`."""
    try:
        return await scored(ranker, batch, off_loop, left_s), ""
    except (InferenceError, DeadlineExceeded) as error:
        if not ranker.as_sent_on_failure:
            raise
        _LOG.debug("ranked as sent: %s", error)
        shape = (len(batch.item_hashes), len(ranker.model.tasks))
        return np.zeros(shape, dtype=np.float32), str(error)


def top_k(scores: F32, k: int) -> I64:
    """Positions of the `k` highest of `scores` [n], best first, equal ones in the order sent; 0: of
    all. Costs O(n + k log k) rather than a full sort."""
    n = len(scores)
    if not 0 < k < n:
        return np.argsort(-scores, kind="stable")
    worst_kept = np.partition(scores, n - k)[n - k]
    candidates = np.flatnonzero(scores >= worst_kept)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
