"""Features of users: a function of their own history alone, slot by slot."""

import dataclasses

import numpy as np
import pytest
from model_cases import FEATURES, PRIOR, some_users, user_batch

from predawn.server.models.user_features import FeatureShape, user_features

SPECIAL = 2 * FEATURES.types


def test_features_do_not_depend_on_the_rest_of_the_batch() -> None:
    batch = user_batch(17)
    whole = user_features(batch, FEATURES, PRIOR)
    for user in range(17):
        alone = user_features(some_users(batch, np.array([user])), FEATURES, PRIOR)
        for name in ("slots", "dense", "items", "bits"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(whole, name)[user])


def test_each_table_is_addressed_within_its_own_rows() -> None:
    slots = user_features(user_batch(200), FEATURES, PRIOR).slots
    assert slots.shape == (200, FEATURES.tables, FEATURES.bag)
    for table in range(FEATURES.tables):
        used = slots[:, table][slots[:, table] > 0]
        assert len(used)
        assert (used > table * FEATURES.rows).all()
        assert (used <= (table + 1) * FEATURES.rows).all()


def test_an_empty_history_is_empty_everywhere() -> None:
    features = user_features(user_batch(3), FEATURES, PRIOR)
    assert not features.slots[0].any()
    assert not features.items[0].any() and not features.bits[0].any()
    assert np.isfinite(features.dense).all()


def test_bags_hold_the_newest_items_of_their_type_in_order() -> None:
    batch = user_batch(60, history=20)
    features = user_features(batch, dataclasses.replace(FEATURES, rows=10**6), PRIOR)
    for user in range(60):
        for t in range(FEATURES.types):
            mine = (batch.types[user] >> t) & 1 == 1
            count = int(mine[: batch.lengths[user]].sum())
            newest, older = features.slots[user, 2 * t], features.slots[user, 2 * t + 1]
            assert (newest > 0).sum() == min(count, 4)
            assert (older > 0).sum() == min(max(count - 4, 0), 4)
    # the same newest item gives the same slot, wherever it stands in the history
    swapped = dataclasses.replace(batch, items=batch.items[:, ::-1].copy())
    assert (user_features(swapped, FEATURES, PRIOR).slots != features.slots).any()


def test_what_lies_behind_the_length_is_not_read() -> None:
    batch = user_batch(30)
    behind = np.arange(12) >= batch.lengths[:, None]
    dirty = dataclasses.replace(
        batch,
        items=np.where(behind, np.uint64(99), batch.items),
        types=np.where(behind, np.uint16(31), batch.types),
        ages_ms=np.where(behind, 10**9, batch.ages_ms),
    )
    clean, got = (user_features(each, FEATURES, PRIOR) for each in (batch, dirty))
    np.testing.assert_array_equal(got.dense, clean.dense)
    np.testing.assert_array_equal(got.items, clean.items)
    np.testing.assert_array_equal(got.bits, clean.bits)


@pytest.mark.parametrize("history", [1, 2, 3, 40])
def test_any_length_of_history_fits_the_same_model(history: int) -> None:
    features = user_features(user_batch(5, history=history), FEATURES, PRIOR)
    assert features.slots.shape[1:] == (FEATURES.tables, FEATURES.bag)
    assert features.dense.shape[1:] == (FEATURES.dense,)


def test_a_history_of_other_columns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"5 types and 2 attributes.*3 and 2"):
        user_features(user_batch(2), FeatureShape(types=3, attributes=2), PRIOR)


def test_the_small_configuration_has_sixteen_tables() -> None:
    assert FeatureShape(types=5, attributes=0).tables == 16
