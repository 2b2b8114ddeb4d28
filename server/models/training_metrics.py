"""How well scores rank and predict. Plain numpy, no dependency."""

import numpy as np
from numpy.typing import NDArray

from predawn.server.models.user_features import F64
from predawn.server.request import F32


def auc(labels: F32, scores: F32) -> float | None:
    """P(a positive scores above a negative), ties count half (Mann-Whitney).

    labels: 0, 1 or NaN (left out) [n]; scores [n]. None when a class is absent.
    """
    known = ~np.isnan(labels)
    positive = labels[known] > 0
    _, group, size = np.unique(scores[known], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[group]
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return None
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def normalised_entropy(labels: F32, probabilities: F32) -> float | None:
    """Log loss over that of the mean label (He et al. 2014, "Practical lessons"): below 1 is better
    than knowing the rate alone. None when a class is absent."""
    known = ~np.isnan(labels)
    truth = labels[known].astype(np.float64)
    rate = truth.mean() if len(truth) else 0.0
    if not 0 < rate < 1:
        return None
    return _log_loss(truth, probabilities[known]) / _log_loss(truth, np.full(len(truth), rate))


def _log_loss(truth: F64, probabilities: NDArray[np.floating]) -> float:
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())
