import numpy as np
import pytest
from replay_cases import day, visits

from predawn.server.replay.loss import affinity, fitted, ranking_loss, sigmoid
from predawn.server.replay.recording import Recording
from predawn.server.request import Source
from predawn.server.traces import Trace


def served(trace: Trace, rows: np.ndarray, source: Source) -> Recording:
    """A recording in which every request was served `rows` from `source`."""
    recording = Recording(len(trace), trace.rows, rows.shape[1])
    recording.rows[:] = rows
    recording.source[:] = source
    return recording


def test_fresh_embeddings_lose_nothing_and_defaults_lose_all() -> None:
    trace = day()
    assert trace.truth is not None
    vectors = trace.truth.user_vectors
    fresh = ranking_loss(trace, served(trace, vectors, Source.COMPUTED), 0, trained=False)
    assert fresh["normalised_entropy"] == pytest.approx(fresh["normalised_entropy_fresh"], abs=2e-3)
    nothing = served(trace, np.zeros_like(vectors), Source.DEFAULT)
    lost = ranking_loss(trace, nothing, 0, trained=False)
    assert lost["normalised_entropy"] == pytest.approx(1.0, abs=1e-4)
    assert lost["normalised_entropy_fresh"] == fresh["normalised_entropy_fresh"]


def test_someone_elses_embedding_is_no_better_than_the_click_rate() -> None:
    trace = day()
    assert trace.truth is not None
    strangers = trace.truth.user_vectors[np.random.default_rng(1).permutation(len(trace))]
    lost = ranking_loss(trace, served(trace, strangers, Source.STALE), 0, trained=False)
    found = lost["normalised_entropy"]
    assert found is not None and 0.97 < found <= 1.0


def test_a_trained_ranker_is_judged_by_its_scores() -> None:
    trace = day()
    recording = Recording(len(trace), trace.rows, 1)
    recording.scores[:] = trace.clicked.mean()
    assert ranking_loss(trace, recording, 0, trained=True)["normalised_entropy"] == pytest.approx(1)


def test_without_clicks_or_truth_there_is_no_loss() -> None:
    trace = visits([(0, 1), (5, 2)])
    found = ranking_loss(trace, Recording(2, 2, 1), 0, trained=False)
    assert found == {"normalised_entropy": None, "normalised_entropy_fresh": None}


def test_the_fit_finds_the_weights_that_made_the_clicks() -> None:
    rng = np.random.default_rng(3)
    affinities = rng.standard_normal(40_000)
    default = rng.random(40_000) < 0.3
    chance = sigmoid(np.where(default, -1.0, 0.8 * affinities - 2.0))
    clicks = (rng.random(40_000) < chance).astype(np.float64)
    found = fitted(np.where(default, 0.0, affinities), default, clicks)
    assert np.abs(found - chance).mean() < 0.01


def test_affinities_are_dot_products_across_chunks() -> None:
    trace = day()
    assert trace.truth is not None
    many = np.arange(450_000) % len(trace)
    items = np.arange(450_000) % len(trace.truth.item_vectors)
    found = affinity(trace.truth, trace.truth.user_vectors, many, items)
    for at in (0, 199_999, 200_000, 449_999):
        expected = trace.truth.user_vectors[many[at]].astype(np.float64) @ (
            trace.truth.item_vectors[items[at]].astype(np.float64)
        )
        assert found[at] == pytest.approx(expected, abs=1e-4)


def test_sigmoid_is_safe_far_out() -> None:
    assert sigmoid(np.array([-1e9, 0.0, 1e9])).tolist() == pytest.approx([0.0, 0.5, 1.0])
