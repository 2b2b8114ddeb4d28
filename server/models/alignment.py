"""An orthogonal map from a new snapshot's embeddings to those of the one that serves.

Two trainings of one model from different random starts find the same users alike, largely up to a
rotation: dot products of embeddings come out near each other, the values do not. The rotation is
found from users embedded by both (orthogonal Procrustes, Schoenemann 1966) and undone for every
user, as arXiv 2508.07574 does from retrain to retrain; theirs also truncates the rank, which would
lose what a ranker reads. What a model has learned differently stays (`predawn bench jolt`). One
rotation of all K embeddings together: one of each was no better.

Invariant: R is orthogonal, so norms and dot products of the new model's embeddings stay as they
are. A chain holds: fitted against what is live, which is aligned itself, the new one speaks the
language of the first.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from predawn.server.models.contract import UserModel
from predawn.server.request import F32, UserBatch

LEAST_USERS_PER_VALUE: Final = 2
"""Fewer users than so many times the dim leave the map undetermined, or fit it to noise."""


def enough_users(users: int, dim: int) -> bool:
    """Whether an alignment of `dim` values can be fitted on so many users."""
    return users >= LEAST_USERS_PER_VALUE * dim


def fit_alignment(old: F32, new: F32) -> F32:
    """R = argmin over orthogonal R of |new R - old|_F. float32 [d, d], applied from the right.

    old, new: float32 [n, d], the same users under what is live and under the new model. With
    new^T old = U S V^T (float64), R = U V^T. ValueError for other shapes, values that are not
    finite or too few users (`enough_users`).
    """
    if old.ndim != 2 or old.shape != new.shape:
        raise ValueError(f"alignment needs two [n, d] of the same users: {old.shape}, {new.shape}")
    users, dim = old.shape
    if not enough_users(users, dim):
        least = LEAST_USERS_PER_VALUE * dim
        raise ValueError(f"alignment of {dim} values needs at least {least} users, got {users}")
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise ValueError("alignment needs finite embeddings")
    left, _, right = np.linalg.svd(new.T.astype(np.float64) @ old.astype(np.float64))
    matrix: F32 = (left @ right).astype(np.float32)
    return matrix


class Aligned:
    """A `UserModel` whose embeddings are turned by a fitted matrix."""

    def __init__(self, model: UserModel, matrix: F32) -> None:
        """ValueError unless the matrix is [dim, dim] and orthogonal to float32's accuracy."""
        dim = model.dim
        if matrix.shape != (dim, dim):
            raise ValueError(f"alignment is {matrix.shape}, the model has {dim} values")
        wide: NDArray[np.float64] = matrix.astype(np.float64)
        if not np.allclose(wide.T @ wide, np.eye(dim), atol=1e-5):
            raise ValueError("alignment is not orthogonal: it would change dot products")
        self._model, self._matrix = model, wide

    @property
    def dim(self) -> int:
        """Values per user."""
        return self._model.dim

    def embed(self, batch: UserBatch) -> F32:
        """float32 [B, dim]. Summed in float64, so that a row depends on the size of its batch in no
        digit that survives the store's rounding; 18 kFLOP a user at 96 values."""
        rows: F32 = (self._model.embed(batch).astype(np.float64) @ self._matrix).astype(np.float32)
        return rows
