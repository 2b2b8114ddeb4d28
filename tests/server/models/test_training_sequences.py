"""Windows show a row what serving would show it, and nothing that came at its time or later."""

import numpy as np
import pytest
import torch
from model_cases import small_trace
from numpy.typing import NDArray

from predawn.server.models.foundation_shape import named_foundation
from predawn.server.models.foundation_tokens import (
    CANDIDATE,
    candidate_features,
    histories,
    history_tokens,
)
from predawn.server.models.item_table import embedding_rows
from predawn.server.models.training_data import UserPast, known_labels
from predawn.server.models.training_sequences import SequenceBatch, Sequences
from predawn.server.traces import EVENT_TYPES

SHAPE = named_foundation("tiny", types=5, tasks=("click", "like"))
TRACE = small_trace(900)
LABELS = known_labels(TRACE, SHAPE.tasks)


def batches(stop: int, asked: NDArray[np.bool_]) -> list[SequenceBatch]:
    sequences = Sequences(TRACE, LABELS, stop, SHAPE, EVENT_TYPES)
    windows = sequences.windows(asked)
    return [sequences.batch(windows[i : i + 3]) for i in range(0, len(windows), 3)]


def test_every_row_is_asked_for_once_with_its_labels() -> None:
    asked = np.arange(TRACE.rows) % 3 > 0
    met = np.zeros(TRACE.rows, np.int64)
    for batch in batches(TRACE.rows, asked):
        there = batch.rows >= 0
        met[batch.rows[there]] += 1
        np.testing.assert_array_equal(batch.labels.numpy()[there], LABELS[batch.rows[there]])
        assert (
            batch.labels.numpy()[~there].size == 0 or np.isnan(batch.labels.numpy()[~there]).all()
        )
    np.testing.assert_array_equal(met, asked.astype(np.int64))


def test_a_row_sees_the_tokens_and_context_that_serving_would_show() -> None:
    """Users of few events: the window begins at their first, as it does in serving."""
    past = UserPast(TRACE, EVENT_TYPES, 400)
    request_of_row = np.repeat(np.arange(len(TRACE)), np.diff(TRACE.offsets))
    early = np.zeros(TRACE.rows, np.bool_)
    early[:300] = True
    checked = 0
    for batch in batches(TRACE.rows, early):
        for user, column in zip(*np.nonzero(batch.rows >= 0), strict=True):
            row = int(batch.rows[user, column])
            request = request_of_row[row]
            state = past.batch(past.request_users[[request]], TRACE.t_ms[[request]])
            [events] = histories(state, SHAPE.length)
            count = int(batch.seen[user, column])
            assert count == len(events)
            tokens = history_tokens(SHAPE, events, 0, count)
            np.testing.assert_array_equal(batch.history.items[user, :count], tokens.items)
            np.testing.assert_array_equal(batch.history.gaps[user, :count], tokens.gaps)
            np.testing.assert_array_equal(batch.history.features[user, :count], tokens.features)
            end = int(events[-1, 2]) if len(events) else 0
            expected = candidate_features(SHAPE, state, np.array([count]), np.array([end]))
            np.testing.assert_array_equal(batch.asked.features[user, column], expected[0])
            hashed = embedding_rows(TRACE.items[[row]], SHAPE.item_rows)
            assert int(batch.asked.items[user, column]) == hashed[0]
            assert int(batch.asked.gaps[user, column]) == CANDIDATE
            checked += 1
    assert checked == 300


def test_long_histories_are_cut_to_at_most_the_length_and_at_least_half() -> None:
    asked = np.arange(TRACE.rows) >= 1000
    half = SHAPE.length // 2
    longest = 0
    for batch in batches(TRACE.rows, asked):
        seen = batch.seen.numpy()[batch.rows >= 0]
        longest = max(longest, int(seen.max()))
        assert half <= seen.min() and seen.max() <= SHAPE.length
        assert batch.history.items.shape[1] <= SHAPE.length
    assert longest > 0.9 * SHAPE.length


def test_the_future_changes_nothing() -> None:
    asked = np.arange(TRACE.rows) < 800
    for one, two in zip(batches(800, asked[:800]), batches(TRACE.rows, asked), strict=True):
        for a, b in zip(one.history[:3], two.history[:3], strict=True):
            assert torch.equal(a, b)
        assert torch.equal(one.seen, two.seen)


@pytest.mark.parametrize("statistics", [False, True])
def test_statistics_stand_beside_their_rows(statistics: bool) -> None:
    every = np.arange(TRACE.rows * 6, dtype=np.float32).reshape(-1, 6)
    known = every if statistics else None
    sequences = Sequences(TRACE, LABELS, TRACE.rows, SHAPE, EVENT_TYPES, known)
    batch = sequences.batch(sequences.windows(np.ones(TRACE.rows, np.bool_))[:4])
    if not statistics:
        assert batch.asked.statistics is None
        return
    there = batch.rows >= 0
    assert batch.asked.statistics is not None
    np.testing.assert_array_equal(batch.asked.statistics.numpy()[there], every[batch.rows[there]])
