"""Figures against their definitions."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from predawn.server.models.training_metrics import auc, normalised_entropy

rows = st.lists(st.tuples(st.sampled_from([0.0, 1.0, math.nan]), st.integers(0, 5)), max_size=30)


@given(rows)
def test_auc_is_the_share_of_pairs_in_order(drawn: list[tuple[float, int]]) -> None:
    ones = [score for label, score in drawn if label == 1]
    zeros = [score for label, score in drawn if label == 0]
    pairs = [(a > b) + (a == b) / 2 for a in ones for b in zeros]
    columns = np.array(drawn, np.float32).reshape(-1, 2)
    got = auc(columns[:, 0], columns[:, 1])
    if not pairs:
        assert got is None
    else:
        assert got is not None
        assert math.isclose(got, sum(pairs) / len(pairs), abs_tol=1e-9)


def test_knowing_the_rate_alone_has_entropy_one() -> None:
    labels = np.array([1, 0, 0, 0, math.nan], np.float32)
    rate = normalised_entropy(labels, np.full(5, 0.25, np.float32))
    better = normalised_entropy(labels, np.array([0.9, 0.1, 0.1, 0.1, 0.9], np.float32))
    assert rate is not None and better is not None
    assert math.isclose(rate, 1, abs_tol=1e-6)
    assert better < 0.3


def test_one_class_has_no_entropy() -> None:
    assert normalised_entropy(np.ones(3, np.float32), np.ones(3, np.float32)) is None
    assert normalised_entropy(np.zeros(0, np.float32), np.zeros(0, np.float32)) is None
