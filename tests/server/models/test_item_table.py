"""Item statistics against plain dictionaries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.models.item_table import (
    SMOOTHING,
    ItemTable,
    count_items,
    embedding_rows,
    item_statistics,
    statistics_width,
)

ids = st.one_of(st.integers(0, 5), st.integers(2**64 - 3, 2**64 - 1))


@given(st.lists(st.tuples(ids, st.booleans(), st.booleans()), min_size=1, max_size=40), st.data())
def test_the_table_counts_what_a_dictionary_counts(
    rows: list[tuple[int, bool, bool]], data: st.DataObject
) -> None:
    labels = np.array([row[1:] for row in rows], np.float32)
    table = count_items(np.array([row[0] for row in rows], np.uint64), labels)
    asked = data.draw(st.lists(ids, min_size=1, max_size=10))
    features = table.features()[table.find(np.array(asked, np.uint64))]
    prior = labels.mean(axis=0).clip(1e-4, 1 - 1e-4)
    for item, got in zip(asked, features, strict=True):
        mine = [row[1:] for row in rows if row[0] == item]
        sums = np.array(mine, float).reshape(-1, 2).sum(axis=0)
        means = (sums + SMOOTHING * prior) / (len(mine) + SMOOTHING)
        np.testing.assert_allclose(got[:2], means - prior, atol=1e-6)
        np.testing.assert_allclose(got[4], np.log1p(len(mine)), atol=1e-6)
        assert got[5] == bool(mine)


def test_an_unseen_item_has_only_zeros() -> None:
    prior = np.array([0.2, 0.9], np.float32)
    got = item_statistics(np.zeros((1, 2), np.float32), np.zeros(1, np.float32), prior)
    assert got.shape == (1, statistics_width(2))
    np.testing.assert_allclose(got, 0, atol=1e-6)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_labels_of_one_class_stay_finite(prior: float) -> None:
    labels = np.full((5, 1), prior, np.float32)
    assert np.isfinite(count_items(np.arange(5, dtype=np.uint64), labels).features()).all()


def test_an_empty_table_knows_nobody() -> None:
    empty = np.zeros(0, np.uint64)
    table = ItemTable(
        empty, np.zeros((0, 1), np.float32), np.zeros(0, np.float32), np.ones(1, np.float32)
    )
    assert table.find(np.array([1, 2], np.uint64)).tolist() == [0, 0]
    assert table.features().shape == (1, statistics_width(1))


def test_rows_of_the_embedding_table_leave_zero_free() -> None:
    rows = embedding_rows(np.arange(1000, dtype=np.uint64), 7)
    assert set(rows.tolist()) == set(range(1, 8))
