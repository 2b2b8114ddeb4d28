"""Tokens know nothing of what comes after them, and windows stay in place while events come."""

import numpy as np
import pytest
from foundation_cases import SHAPE, one_user
from model_cases import some_users, user_batch

from predawn.server.models.foundation_tokens import (
    GAPS,
    candidate_features,
    histories,
    history_tokens,
)


def test_a_history_is_the_users_events_in_order_of_time() -> None:
    batch = user_batch(20, history=12)
    for user, events in enumerate(histories(batch, 64)):
        used = int(batch.lengths[user])
        if used == 12:
            continue  # full: the window may have begun earlier
        assert len(events) == used
        np.testing.assert_array_equal(events[:, 0], batch.items[user, :used][::-1])
        np.testing.assert_array_equal(events[:, 1], batch.types[user, :used][::-1])
        ages = batch.ages_ms[user, :used][::-1]
        np.testing.assert_array_equal(events[:, 2], ages[:1] - ages)


@pytest.mark.parametrize("columns", [12, 33, 70])
def test_a_full_window_moves_seldom_and_is_never_below_half(columns: int) -> None:
    """What was encoded stays a beginning of what is wanted, mostly."""
    shown = min(columns, SHAPE.length)
    before, moved, total = np.zeros((0, 3), np.uint64), 0, 0
    for events in range(1, 1200):
        [now] = histories(one_user(events, columns), SHAPE.length)
        if events > shown:
            assert shown / 2 < len(now) <= shown
        same = len(before) < len(now) and (now[: len(before)] == before).all()
        assert not same or len(now) == len(before) + 1
        moved += not same
        total += len(now)
        before = now
    assert moved < 1200 * 6 / shown
    assert total / 1200 > 0.65 * shown


def test_the_window_does_not_depend_on_other_users() -> None:
    batch = user_batch(30, history=9)
    batch.lengths[:] = 9
    whole = histories(batch, 64)
    for user in range(30):
        [alone] = histories(some_users(batch, np.array([user])), 64)
        np.testing.assert_array_equal(alone, whole[user])


def test_more_columns_than_events_show_that_there_are_no_others() -> None:
    [events] = histories(one_user(SHAPE.length, SHAPE.length + 1), SHAPE.length)
    assert len(events) == SHAPE.length


def test_a_token_is_a_function_of_its_own_and_earlier_events() -> None:
    [whole] = histories(one_user(40), 64)
    [shorter] = histories(one_user(33), 64)
    np.testing.assert_array_equal(whole[:33], shorter)
    expected = history_tokens(SHAPE, whole, 0, 40)
    for first, stop in ((0, 1), (0, 33), (33, 40), (1, 2), (5, 5)):
        part = history_tokens(SHAPE, whole, first, stop)
        np.testing.assert_array_equal(part.items, expected.items[first:stop])
        np.testing.assert_array_equal(part.gaps, expected.gaps[first:stop])
        np.testing.assert_array_equal(part.features, expected.features[first:stop])


def test_tokens_tell_types_gaps_and_places_apart() -> None:
    [events] = histories(one_user(40), 64)
    tokens = history_tokens(SHAPE, events, 0, 40)
    bits = (events[:, 1:2] >> np.arange(5, dtype=np.uint64)) & 1
    np.testing.assert_array_equal(tokens.features[:, :5], bits)
    assert tokens.gaps[0] == 0 and tokens.gaps[1:].min() >= 1 and tokens.gaps.max() < GAPS - 1
    assert len(np.unique(tokens.features[:, 5:], axis=0)) == 40
    assert not tokens.features[:, 5 + 4 * SHAPE.waves :].any()


def test_wild_histories_stay_finite() -> None:
    batch = user_batch(20, history=12)
    batch.counts[:] = 4e9
    batch.attributes[:] = 3e38
    batch.ages_ms[:] = np.arange(12) * 2**58
    past = histories(batch, 64)
    ends = np.array([int(events[-1, 2]) if len(events) else 0 for events in past])
    lengths = np.array([len(events) for events in past])
    assert np.isfinite(candidate_features(SHAPE, batch, lengths, ends)).all()
    for events in past:
        assert np.isfinite(history_tokens(SHAPE, events, 0, len(events)).features).all()


def test_a_history_of_other_columns_is_refused() -> None:
    batch = user_batch(2)
    narrow = type(batch)(
        **{
            name: getattr(batch, name)[:, :1] if name == "attributes" else getattr(batch, name)
            for name in type(batch).__slots__
        }
    )
    none = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="5 types and 1 attributes"):
        candidate_features(SHAPE, narrow, none, none)
