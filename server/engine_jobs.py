"""What the device's thread does for one batch: run the live version, check what it returned.

Invariant: rows that leave here are float32 of the shape asked for; a row that is not finite is
marked. Whatever a model does wrong is raised here and named by the worker. Batches that went well
are remembered: a new version of the model is tried on them.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from predawn.server.engine import Computed, checked_rows
from predawn.server.engine_recent import Recent
from predawn.server.engine_roster import Roster
from predawn.server.models.contract import PairModel, RankerModel, SlicedPairModel, UserModel
from predawn.server.request import F32, PairBatch, RankBatch, UserBatch, UserId, UserItems

Outcome: TypeAlias = Computed | F32
Slices: TypeAlias = Generator[None, None, Outcome]


class Jobs:
    """The three things that an engine computes, of what is live when they begin."""

    def __init__(self, roster: Roster, recent: Recent) -> None:
        self._roster = roster
        self._recent = recent

    def embed(self, name: str, gather: Callable[[], UserBatch]) -> Computed:
        """One batch of a user model."""
        held = self._roster.live(name)
        model = cast(UserModel, held.model)
        batch = gather()
        rows = checked_rows(name, model.embed(batch), (len(batch.users), model.dim))
        self._recent.saw_users(name, batch, rows, held.version)
        return _marked(rows, held.version, "the embedding is not finite")

    def pairs(self, name: str, gather: Callable[[], PairBatch]) -> Slices:
        """One batch of a pair model, slice by slice where it can be sliced."""
        held = self._roster.live(name)
        model = cast(PairModel, held.model)
        batch = gather()
        if isinstance(model, SlicedPairModel):
            rows: object = yield from model.pair_slices(batch)
        else:
            rows = model.embed_pairs(batch)
        checked = checked_rows(name, rows, (len(batch.item_hashes), model.dim))
        self._recent.saw_pairs(name, batch)
        return _marked(checked, held.version, "the embedding is not finite")

    def score(self, name: str, batch: RankBatch) -> F32:
        """One batch of a ranker that is not inline."""
        model = cast(RankerModel, self._roster.live(name).model)
        shape = (len(batch.item_hashes), len(model.tasks))
        scores = checked_rows(name, model.score(batch), shape)
        self._recent.saw_ranking(name, batch)
        return scores


def pair_batch(
    gather: Callable[[Sequence[UserId]], UserBatch], wanted: Sequence[UserItems]
) -> PairBatch:
    """The past of the users of `wanted` and their items, in the order given."""
    ends = np.cumsum([0, *(len(each.item_hashes) for each in wanted)], dtype=np.int64)
    hashes = [each.item_hashes for each in wanted]
    return PairBatch(gather([each.user for each in wanted]), ends, np.concatenate(hashes))


def _marked(rows: F32, version: int, error: str) -> Computed:
    ok: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(rows), axis=1)
    return Computed(rows, ok, version, 0, "" if ok.all() else error)
