from pathlib import Path

import numpy as np
import pytest
from replay_cases import day, replayed, visits

from predawn.server.errors import ConfigError
from predawn.server.history_memory import MemoryHistory
from predawn.server.models.training import train
from predawn.server.replay import PairOptions
from predawn.server.replay.embeddings import TracePast
from predawn.server.replay.pair_embeddings import TrainedPairs, TrueProducts, pair_embeddings_of
from predawn.server.request import F32, PairBatch, UserItems
from predawn.server.traces import EVENT_TYPES


class NewestTimes:
    """A pair model: the user's newest item, and the item asked for."""

    dim = 2

    def embed_pairs(self, batch: PairBatch) -> F32:
        owner = np.repeat(np.arange(len(batch.offsets) - 1), np.diff(batch.offsets))
        newest = np.where(batch.users.lengths > 0, batch.users.items[:, 0], 0)
        return np.stack([newest[owner], batch.item_hashes], axis=1).astype(np.float32)


def wanted(user: int | str, *items: int) -> UserItems:
    return UserItems(user, np.array(items, dtype=np.uint64))


def test_the_truth_is_that_of_the_newest_request_that_has_arrived() -> None:
    trace = day()
    truth, user = trace.truth, trace.user(0)
    assert truth is not None
    own = [i for i in range(len(trace)) if trace.user(i) == user][:2]
    model = TrueProducts(truth)
    for request in own:
        model.arrived(request, user)
        expected = truth.user_vectors[request].astype(np.float32) * truth.item_vectors[[3, 8]]
        np.testing.assert_array_equal(model.embed([wanted(user, 3, 8)]), expected)


def test_a_trained_model_sees_what_was_answered_and_no_more() -> None:
    trace = day().slice(0, 50)
    past = TracePast(trace, MemoryHistory(EVENT_TYPES, [], 16))
    model, user = TrainedPairs(past, NewestTimes()), trace.user(0)
    model.arrived(0, user)
    assert model.embed([wanted(user, 3)]).tolist() == [[0, 3]]
    model.answered(0, user)
    newest = float(trace.items[int(trace.offsets[1]) - 1])
    found = model.embed([wanted(user, 3, 4), wanted("nobody", 5)])
    assert found.tolist() == [[newest, 3], [newest, 4], [0, 5]]


def test_a_log_without_truth_needs_a_snapshot() -> None:
    with pytest.raises(ConfigError, match="fm: this log has no truth"):
        pair_embeddings_of(visits([(0, 1)]), None)


def test_a_trained_foundation_model_is_replayed_with_its_ranker(tmp_path: Path) -> None:
    trace = day().slice(0, 700)
    train(
        trace,
        out=tmp_path,
        holdout=0.2,
        seed=0,
        max_rows=2_000,
        epochs=1,
        size="tiny",
        foundation="tiny",
    )
    pairs = PairOptions(fm=tmp_path, capacity=4096)
    report = replayed(trace.slice(0, 200), models=tmp_path, pairs=pairs)
    found = report.pairs["fm"]
    assert found["sources"]["direct"] > 0 and found["coverage_with_fills"] > 0.5
    assert {"no_fm", "fm", "served", "kept", "levels"} == set(found["loss"])
    with pytest.raises(ConfigError, match="models: its ranker reads pairs"):
        replayed(trace.slice(0, 50), models=tmp_path)
