from pathlib import Path

import numpy as np
import pytest
from replay_cases import day, replayed, visits

from predawn.server.errors import SnapshotError
from predawn.server.history_memory import MemoryHistory
from predawn.server.models.training import train
from predawn.server.replay.embeddings import (
    LatestRequests,
    NoRanker,
    TracePast,
    TrainedModel,
    TrueVectors,
    embeddings_of,
)
from predawn.server.request import F32, UserBatch
from predawn.server.traces import EVENT_TYPES


class NewestItem:
    """A user model that embeds with the newest item and the number of events."""

    dim = 2

    def embed(self, batch: UserBatch) -> F32:
        newest = np.where(batch.lengths > 0, batch.items[:, 0], 0)
        return np.stack([newest, batch.lengths], axis=1).astype(np.float32)


def test_the_truth_is_that_of_the_newest_request_that_has_arrived() -> None:
    trace = day()
    assert trace.truth is not None
    vectors = TrueVectors(trace.truth)
    user = trace.user(0)
    own = [i for i in range(len(trace)) if trace.user(i) == user]
    vectors.arrived(own[0], user)
    np.testing.assert_array_equal(vectors.embed([user])[0], trace.truth.user_vectors[own[0]])
    vectors.arrived(own[1], user)
    np.testing.assert_array_equal(vectors.embed([user])[0], trace.truth.user_vectors[own[1]])
    assert list(vectors.users()) == [user]


def test_a_trained_model_sees_what_was_answered_and_no_more() -> None:
    trace = day().slice(0, 50)
    history = MemoryHistory(EVENT_TYPES, [], 16)
    model = TrainedModel(TracePast(trace, history), NewestItem())
    user = trace.user(0)
    model.arrived(0, user)
    assert model.embed([user]).tolist() == [[0.0, 0.0]]
    model.answered(0, user)
    stop = int(trace.offsets[1])
    assert model.embed([user])[0, 1] == min(16, stop)
    assert model.embed([user])[0, 0] == trace.items[stop - 1]
    assert list(model.users()) == [user] and model.dim == 2


def test_without_truth_or_models_the_embedding_is_a_constant() -> None:
    embeddings, ranker = embeddings_of(visits([(0, 1)]), None)
    assert isinstance(embeddings, LatestRequests) and isinstance(ranker, NoRanker)
    assert embeddings.embed([1, 2]).tolist() == [[1.0], [1.0]]


def test_a_trained_snapshot_ranks_in_the_replay(tmp_path: Path) -> None:
    trace = day()
    train(trace, out=tmp_path, holdout=0.2, seed=0, max_rows=4_000, epochs=1)
    report = replayed(trace.slice(0, 400), mode="ercache", models=tmp_path)
    loss = report.models["user"].loss["normalised_entropy"]
    assert loss is not None and 0.5 < loss < 1.5
    assert report.models["user"].sources["computed"] > 0


def test_a_directory_without_snapshots_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=str(tmp_path)):
        embeddings_of(day(), tmp_path)
