"""Pairs as the ranker meets them: of the served model, and never of rows it has learned from."""

import numpy as np
import pytest
import torch
from model_cases import small_trace

from predawn.server.errors import ConfigError
from predawn.server.models.foundation_model import FoundationModel
from predawn.server.models.training_data import UserPast, known_labels
from predawn.server.models.training_pairs import PairPart, PairPlan, share_of_gain, train_pair_part
from predawn.server.models.training_resume import Start
from predawn.server.models.training_run import Run
from predawn.server.request import PairBatch
from predawn.server.stabilise import compress
from predawn.server.traces import EVENT_TYPES

TRACE = small_trace(300)
LABELS = known_labels(TRACE, ("click", "like"))
STOP = int(TRACE.offsets[240])


def part() -> PairPart:
    plan = PairPlan("tiny", ("click", "like"), (0, STOP), seed=0, epochs=1)
    return train_pair_part(plan, TRACE, LABELS, lambda share: None)


def test_embeddings_are_those_of_the_served_model_one_request_at_a_time() -> None:
    pairs = part()
    requests = np.array([250, 3, 120, 250])
    at_ms = TRACE.t_ms[requests] - np.array([0, 0, 0, 60_000])
    got = pairs.embeddings(requests, at_ms)
    past = UserPast(TRACE, EVENT_TYPES, pairs.net.shape.length)
    model, expected = FoundationModel(pairs.net), []
    for request, at in zip(requests, at_ms, strict=True):
        rows = slice(int(TRACE.offsets[request]), int(TRACE.offsets[request + 1]))
        users = past.batch(past.request_users[[request]], np.array([at]))
        items = TRACE.items[rows]
        batch = PairBatch(users, np.array([0, len(items)]), items)
        expected.append(compress(model.embed_pairs(batch), "fp16"))
    np.testing.assert_allclose(got, np.concatenate(expected), atol=2e-3)
    assert got.std() > 0.05


def test_statistics_and_priors_come_from_the_learned_rows_alone() -> None:
    """The future of the log changes nothing that is kept."""
    one = part()
    other = small_trace(300)
    future = np.arange(other.rows) >= STOP
    changed = np.where(future[:, None], 1 - LABELS, LABELS)
    plan = PairPlan("tiny", ("click", "like"), (0, STOP), seed=0, epochs=1)
    two = train_pair_part(plan, other, changed.astype(np.float32), lambda share: None)
    for name, tensor in one.files["foundation.safetensors"].items():
        np.testing.assert_array_equal(tensor, two.files["foundation.safetensors"][name])
    assert one.net.shape == two.net.shape
    known = one.net.statistics
    assert known[0].abs().sum() == 0 and len(torch.unique(known, dim=0)) > 20


def test_counting_further_changes_what_is_counted_and_nothing_that_was_learned() -> None:
    pairs = part()
    requests = np.arange(240, 300)
    before, kept = pairs.embeddings(requests, TRACE.t_ms[requests]), pairs.files
    learned = {name: array.copy() for name, array in kept["foundation.safetensors"].items()}
    pairs.count_to(TRACE.rows)
    for name, array in pairs.files["foundation.safetensors"].items():
        assert np.array_equal(array, learned[name]) == (name != "statistics"), name
    assert not np.allclose(pairs.embeddings(requests, TRACE.t_ms[requests]), before, atol=1e-3)


def test_pairs_are_unknown_at_rows_that_the_model_learned_from() -> None:
    pairs = part()
    stop = pairs.stop
    run = Run(TRACE, 0.2, 0, None, Start(size="tiny"))
    examples = pairs.with_pairs(run.examples())
    assert examples.pairs is not None
    known = ~examples.pairs[:, 0].isnan().numpy()
    first_rows = np.repeat(TRACE.offsets[examples.requests], examples.counts)
    np.testing.assert_array_equal(known, first_rows >= stop)
    assert 0 < known.mean() < 0.5


def test_the_section_says_how_to_rebuild_it() -> None:
    pairs = part()
    section = pairs.describe(np.arange(200, 240))["foundation"]
    assert section["dim"] == len(section["default"]) == pairs.net.shape.dim
    assert section["length"] == pairs.net.shape.length
    assert np.isfinite(section["default"]).all()


def test_the_share_of_the_gain_is_solaris_transfer_ratio() -> None:
    assert share_of_gain(0.9, 0.8, 0.85) == pytest.approx(0.5)
    assert share_of_gain(0.8, 0.9, 0.85) is None
    assert share_of_gain(None, 0.9, 0.85) is None


def test_an_unknown_configuration_is_named() -> None:
    with pytest.raises(ConfigError, match="foundation"):
        PairPlan("smal", ("click",), (0, 1), 0, None)
