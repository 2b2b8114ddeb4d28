"""What a user's vector is to a regression on it: a constant, and how far he is from the average
user along the few directions in which users differ most.

Invariant: pure functions of a sample; a basis once made does not change. Directions are scaled all
alike, so that users differ by 1 along them on average: a ridge then asks for small steps from user
to user, whatever the model's own scale, and most from the directions that matter least.
"""

from dataclasses import dataclass

import numpy as np

from predawn.server.request import F32

__all__ = ["Directions", "fit_directions", "share_kept"]


@dataclass(frozen=True, slots=True)
class Directions:
    """mean: float32 [d]; matrix: float32 [d, directions], orthogonal columns times one factor;
    columns of 0 where d or the sample has fewer."""

    mean: F32
    matrix: F32

    def features(self, vector: F32) -> F32:
        """float32 [1 + directions] of a vector [d]."""
        out: F32 = np.empty(self.matrix.shape[1] + 1, dtype=np.float32)
        out[0] = 1
        np.matmul(vector - self.mean, self.matrix, out=out[1:])
        return out


def fit_directions(sample: F32, directions: int) -> Directions:
    """Principal directions of `sample` [n, d], the widest first."""
    mean = sample.mean(axis=0, dtype=np.float64)
    values, vectors = _spread(sample, mean)
    kept = min(directions, int((values > values[0] * 1e-6).sum()))
    matrix: F32 = np.zeros((sample.shape[1], directions), dtype=np.float32)
    if kept and values[0] > 0:
        matrix[:, :kept] = vectors[:, :kept] / np.sqrt(values[:kept].mean())
    return Directions(mean.astype(np.float32), matrix)


def share_kept(basis: Directions, sample: F32) -> float:
    """How much of the difference between users `basis` keeps, over the most that as many directions
    of `sample` could keep: 0..1."""
    directions = basis.matrix.shape[1]
    mean = sample.mean(axis=0, dtype=np.float64)
    values, _ = _spread(sample, mean)
    most = float(values[:directions].sum())
    matrix = basis.matrix.astype(np.float64)
    norms = np.sqrt((matrix**2).sum(axis=0))
    units = matrix[:, norms > 0] / norms[norms > 0]
    kept = float((((sample - mean) @ units) ** 2).sum() / len(sample))
    return min(1.0, kept / most) if most > 0 else 1.0


def _spread(sample: F32, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of the covariance, largest first, and their vectors as columns."""
    centred = sample - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(sample))
    return values[::-1], vectors[:, ::-1]
