"""What the simulated foundation model computes: the trace's own truth, or a trained model.

Invariant: an embedding is a function of the requests that have arrived, never of later ones.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from predawn.server.errors import ConfigError
from predawn.server.models.contract import PairModel
from predawn.server.models.loading import ModelSource, Recipe, load_model
from predawn.server.models.snapshots import load_snapshot
from predawn.server.replay.embeddings import TracePast, history_of
from predawn.server.request import F32, I64, PairBatch, UserId, UserItems
from predawn.server.traces import Trace, Truth


class PairEmbeddings(Protocol):
    """A foundation model as the replay drives it."""

    @property
    def dim(self) -> int:
        """Values per pair."""
        ...

    def arrived(self, request: int, user: UserId) -> None:
        """Request number `request` has come in."""
        ...

    def answered(self, request: int, user: UserId) -> None:
        """It has been answered: its clicks are known from now on."""
        ...

    def embed(self, wanted: Sequence[UserItems]) -> F32:
        """float32 [sum of items, dim] of pairs as they are now, user by user."""
        ...


class TrueProducts:
    """The perfect foundation model of the generator's clicks: the user's vector at the newest
    request that has arrived times the item's vector, value by value. A click's logit is linear in
    it, so that what is lost by serving an old or another's embedding is exact."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._latest: dict[UserId, int] = {}
        self.dim = truth.item_vectors.shape[1]

    def arrived(self, request: int, user: UserId) -> None:
        self._latest[user] = request

    def answered(self, request: int, user: UserId) -> None:
        pass

    def embed(self, wanted: Sequence[UserItems]) -> F32:
        users = self._truth.user_vectors[[self._latest[each.user] for each in wanted]]
        owner = np.repeat(np.arange(len(wanted)), [len(each.item_hashes) for each in wanted])
        items = np.concatenate([each.item_hashes for each in wanted]).astype(np.int64)
        return np.asarray(users.astype(np.float32)[owner] * self._truth.item_vectors[items])


class TrainedPairs:
    """A trained foundation model over the history of what has been shown and clicked so far."""

    def __init__(self, past: TracePast, model: PairModel) -> None:
        self._past = past
        self._model = model
        self.dim = model.dim

    def arrived(self, request: int, user: UserId) -> None:
        pass

    def answered(self, request: int, user: UserId) -> None:
        self._past.answered(request, user)

    def embed(self, wanted: Sequence[UserItems]) -> F32:
        counts = [len(each.item_hashes) for each in wanted]
        offsets: I64 = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        items = np.concatenate([each.item_hashes for each in wanted])
        users = self._past.history.gather([each.user for each in wanted])
        return self._model.embed_pairs(PairBatch(users, offsets, items))


def pair_embeddings_of(trace: Trace, snapshot: Path | None) -> PairEmbeddings:
    """The foundation model of the snapshot directory, or the trace's own truth. ConfigError where
    the trace has none."""
    if snapshot is None:
        if trace.truth is None:
            raise ConfigError("fm", "this log has no truth; name a snapshot directory")
        return TrueProducts(trace.truth)
    past = TracePast(trace, history_of(load_snapshot(str(snapshot)), "foundation"))
    layout = past.history.layout
    recipe = Recipe(
        "pair",
        ModelSource("fm", snapshot=str(snapshot)),
        types=tuple(layout.types),
        attributes=tuple(layout.attributes),
        length=layout.length,
    )
    return TrainedPairs(past, cast(PairModel, load_model(recipe)))
