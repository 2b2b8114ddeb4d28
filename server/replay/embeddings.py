"""What the simulated engine computes: the trace's own truth, a trained model, or a constant.

Invariant: an embedding is a function of the requests that have arrived, never of later ones.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from predawn.server.config import LONGEST_HISTORY
from predawn.server.errors import ConfigError
from predawn.server.history_memory import MemoryHistory
from predawn.server.models.contract import RankerModel, UserModel
from predawn.server.models.loading import ModelSource, load_ranker, load_user_model
from predawn.server.models.snapshots import Snapshot, load_snapshot
from predawn.server.request import F32, RankBatch, UserId
from predawn.server.traces import Trace, Truth, event_types


class Embeddings(Protocol):
    """A user model as the replay drives it."""

    @property
    def dim(self) -> int:
        """Values per user."""
        ...

    def arrived(self, request: int, user: UserId) -> None:
        """Request number `request` has come in."""
        ...

    def answered(self, request: int, user: UserId) -> None:
        """It has been answered: its clicks are known from now on."""
        ...

    def embed(self, users: Sequence[UserId]) -> F32:
        """float32 [n, dim] of users as they are now."""
        ...

    def users(self) -> Iterable[UserId]:
        """Every user known by now."""
        ...


class LatestRequests:
    """Newest request of every user; embeds with a constant. For traces without truth."""

    dim = 1

    def __init__(self) -> None:
        self._latest: dict[UserId, int] = {}

    def arrived(self, request: int, user: UserId) -> None:
        self._latest[user] = request

    def answered(self, request: int, user: UserId) -> None:
        pass

    def embed(self, users: Sequence[UserId]) -> F32:
        return np.ones((len(users), 1), dtype=np.float32)

    def users(self) -> Iterable[UserId]:
        return list(self._latest)


class TrueVectors(LatestRequests):
    """The generator's vector of a user at the newest request that has arrived: a perfect model, so
    that what is lost by serving an old embedding is exact."""

    def __init__(self, truth: Truth) -> None:
        super().__init__()
        self._vectors = truth.user_vectors
        self.dim = truth.user_vectors.shape[1]

    def embed(self, users: Sequence[UserId]) -> F32:
        return self._vectors[[self._latest[user] for user in users]].astype(np.float32)


class TracePast:
    """The history that a server would have kept of a trace so far."""

    def __init__(self, trace: Trace, history: MemoryHistory) -> None:
        self.history = history
        self._t_ms = trace.t_ms.tolist()
        self._offsets = trace.offsets.tolist()
        self._items = trace.items.tolist()
        self._types = event_types(trace, history.layout.types).tolist()

    def answered(self, request: int, user: UserId) -> None:
        """What request number `request` showed, and what was clicked of it, is known now."""
        t_ms = self._t_ms[request]
        for row in range(self._offsets[request], self._offsets[request + 1]):
            if self._types[row]:
                self.history.push(user, self._items[row], t_ms, self._types[row])


class TrainedModel:
    """A trained user model over the history of what has been shown and clicked so far."""

    def __init__(self, past: TracePast, model: UserModel) -> None:
        self._model = model
        self._past = past
        self._known: dict[UserId, None] = {}

    @property
    def dim(self) -> int:
        return self._model.dim

    def arrived(self, request: int, user: UserId) -> None:
        self._known[user] = None

    def answered(self, request: int, user: UserId) -> None:
        self._past.answered(request, user)

    def embed(self, users: Sequence[UserId]) -> F32:
        return self._model.embed(self._past.history.gather(users))

    def users(self) -> Iterable[UserId]:
        return list(self._known)


class NoRanker:
    """Stands for a ranker where only the caching is of interest: all scores are 0."""

    tasks = ("click",)
    item_features: tuple[str, ...] = ()
    inline = True

    def score(self, batch: RankBatch) -> F32:
        """float32 [R, 1] of zeros."""
        return np.zeros((len(batch.item_hashes), 1), dtype=np.float32)


class ServedSums:
    """The ranker of a true foundation model: the sum of a served pair embedding is what it knows
    of the click, 0 where nothing is known. Order is all that its scores are for."""

    tasks = ("click",)
    item_features: tuple[str, ...] = ()
    inline = True

    def score(self, batch: RankBatch) -> F32:
        """float32 [R, 1] in 0..1."""
        total = batch.pairs.sum(axis=1, keepdims=True, dtype=np.float32)
        return np.asarray(1 / (1 + np.exp(-total)), dtype=np.float32)


def embeddings_of(
    trace: Trace, models: Path | None, true_pairs: bool = False, pairs: bool = False
) -> tuple[Embeddings, RankerModel]:
    """The user model to replay with and its ranker: from the snapshot directory `models`, else
    what the trace itself knows. pairs: there is a foundation model, too; true_pairs: the truth's.
    ConfigError where the ranker needs one and there is none."""
    if models is not None:
        return _trained(trace, str(models), pairs)
    ranker: RankerModel = ServedSums() if true_pairs else NoRanker()
    if trace.truth is not None:
        return TrueVectors(trace.truth), ranker
    return LatestRequests(), ranker


def history_of(snapshot: Snapshot, of: str = "history") -> MemoryHistory:
    """An empty history of the kind that the snapshot's models were trained on; of: the section
    that says how long."""
    kept = snapshot.section("history")
    length = snapshot.section(of)["length"]
    return MemoryHistory(kept["types"], kept["attributes"], min(length, LONGEST_HISTORY))


def _trained(trace: Trace, path: str, pairs: bool) -> tuple[Embeddings, RankerModel]:
    snapshot = load_snapshot(path)
    if snapshot.section("ranker").get("pair_models") and not pairs:
        raise ConfigError("models", "its ranker reads pairs: name its foundation model, too")
    past = TracePast(trace, history_of(snapshot))
    model = load_user_model(ModelSource("models", snapshot=path))
    return TrainedModel(past, model), load_ranker(ModelSource("models", snapshot=path))
