"""The fitted map is orthogonal, undoes a rotation, and never changes what dot products say."""

import numpy as np
import pytest
from model_cases import PRIOR, some_users, tower, user_batch
from numpy.typing import NDArray

from predawn.server.models.alignment import Aligned, enough_users, fit_alignment
from predawn.server.models.user_tower import UserTower
from predawn.server.request import F32
from predawn.server.stabilise import compress


def rotation(dim: int, seed: int) -> NDArray[np.float64]:
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return matrix


def embeddings(users: int, dim: int, seed: int = 0) -> F32:
    rng = np.random.default_rng(seed)
    scales = rng.exponential(1.0, dim)
    return (rng.standard_normal((users, dim)) * scales + 0.3).astype(np.float32)


def test_a_rotation_is_undone_and_the_map_is_orthogonal() -> None:
    old = embeddings(200, 24)
    new = (old @ rotation(24, 1)).astype(np.float32)
    found = fit_alignment(old, new)
    assert found.dtype == np.float32 and found.shape == (24, 24)
    np.testing.assert_allclose(new @ found, old, atol=1e-4)
    np.testing.assert_allclose(found.T @ found, np.eye(24), atol=1e-6)


def test_no_other_rotation_fits_better() -> None:
    rng = np.random.default_rng(3)
    old = embeddings(100, 8)
    new = (old @ rotation(8, 4) + rng.standard_normal((100, 8))).astype(np.float32)
    found = fit_alignment(old, new)
    best = np.linalg.norm(new @ found - old)
    for seed in range(50):
        near = found @ _small_rotation(8, seed)
        assert np.linalg.norm(new @ near - old) > best
    assert best < np.linalg.norm(new - old)


def _small_rotation(dim: int, seed: int) -> NDArray[np.float64]:
    """Cayley transform of a small skew matrix."""
    skew = np.random.default_rng(seed).standard_normal((dim, dim)) * 0.05
    skew -= skew.T
    return np.asarray(np.linalg.solve(np.eye(dim) + skew, np.eye(dim) - skew), np.float64)


def test_an_aligned_model_keeps_dot_products_and_chains() -> None:
    batch = user_batch(160)
    first, second = (UserTower(tower(seed), PRIOR.astype(np.float32)) for seed in (0, 1))
    live = Aligned(first, rotation(first.dim, 2).astype(np.float32))
    matrix = fit_alignment(live.embed(batch), second.embed(batch))
    aligned = Aligned(second, matrix)
    plain, turned = second.embed(batch), aligned.embed(batch)
    assert aligned.dim == second.dim and turned.dtype == np.float32
    np.testing.assert_allclose(turned @ turned.T, plain @ plain.T, rtol=1e-3, atol=1e-3)
    near, far = (np.linalg.norm(each - live.embed(batch)) for each in (turned, plain))
    assert near < far


def test_a_row_is_the_same_in_a_batch_of_any_size() -> None:
    model = UserTower(tower(), PRIOR.astype(np.float32))
    aligned, batch = Aligned(model, rotation(model.dim, 5).astype(np.float32)), user_batch(33)
    whole = compress(aligned.embed(batch), "fp16")
    for user in range(33):
        alone = aligned.embed(some_users(batch, np.array([user])))
        np.testing.assert_array_equal(compress(alone, "fp16")[0], whole[user])


def test_what_cannot_be_fitted_or_applied_is_refused() -> None:
    old = embeddings(40, 8)
    with pytest.raises(ValueError, match="same users"):
        fit_alignment(old, old[:20])
    with pytest.raises(ValueError, match="at least 16 users, got 15"):
        fit_alignment(old[:15], old[:15])
    assert enough_users(16, 8) and not enough_users(15, 8)
    with pytest.raises(ValueError, match="finite"):
        fit_alignment(old, np.where(old > 1, np.nan, old).astype(np.float32))
    model = UserTower(tower(), PRIOR.astype(np.float32))
    with pytest.raises(ValueError, match="64 values"):
        Aligned(model, np.eye(8, dtype=np.float32))
    with pytest.raises(ValueError, match="not orthogonal"):
        Aligned(model, 2 * np.eye(64, dtype=np.float32))
