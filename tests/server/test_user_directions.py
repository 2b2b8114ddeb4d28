"""Directions keep what differs between users, at the scale of 1."""

import numpy as np
import pytest

from predawn.server.user_directions import fit_directions, share_kept


def test_users_differ_by_one_along_directions_on_average_and_the_constant_is_one() -> None:
    rng = np.random.default_rng(0)
    sample = (rng.normal(size=(500, 6)) * 40 + 7).astype(np.float32)
    basis = fit_directions(sample, 6)
    features = np.stack([basis.features(each) for each in sample])
    assert features.dtype == np.float32
    assert (features[:, 0] == 1).all()
    assert np.abs(features[:, 1:].mean(axis=0)).max() < 1e-3
    assert (features[:, 1:] ** 2).mean() == pytest.approx(1, rel=1e-3)


def test_keep_all_of_vectors_that_lie_in_as_many_dimensions() -> None:
    """Distances between users stay, up to one factor."""
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(300, 5))
    sample = (hidden @ rng.normal(size=(5, 192))).astype(np.float32)
    basis = fit_directions(sample, 8)
    features = np.stack([basis.features(each) for each in sample])
    assert (features[:, 6:] == 0).all()
    real = np.linalg.norm(sample[:-1] - sample[1:], axis=1)
    kept = np.linalg.norm(features[:-1] - features[1:], axis=1)
    assert np.allclose(real / kept, (real / kept).mean(), rtol=1e-3)
    assert share_kept(basis, sample) == pytest.approx(1, abs=1e-6)


def test_share_kept_falls_when_users_come_to_differ_otherwise() -> None:
    rng = np.random.default_rng(2)
    one, other = np.zeros((200, 8)), np.zeros((200, 8))
    one[:, :3], other[:, 2:5] = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    basis = fit_directions(one.astype(np.float32), 3)
    assert share_kept(basis, other.astype(np.float32)) == pytest.approx(1 / 3, abs=0.1)


def test_users_that_are_all_alike_have_no_direction() -> None:
    sample = np.full((20, 4), 3, dtype=np.float32)
    basis = fit_directions(sample, 2)
    assert basis.features(sample[0]).tolist() == [1, 0, 0]
    assert share_kept(basis, sample) == 1
