"""What serving old embeddings costs in ranking quality, against the clicks of the trace.

With a trained ranker: the normalised entropy of its own scores. With the trace's truth: that of a
ranker fitted to the embeddings as they were served, as SUM's consumers are: a logistic regression
on the affinity of the served vector to the item and on whether it was the default. It has three
weights for a million rows, so that fitting and measuring on the same rows does not flatter it.
"""

import numpy as np
from numpy.typing import NDArray

from predawn.server.models.training_metrics import normalised_entropy
from predawn.server.replay.recording import Recording
from predawn.server.request import Source
from predawn.server.traces import Trace, Truth

F64 = NDArray[np.float64]

_CHUNK = 200_000
_NEWTON_STEPS = 12


def ranking_loss(
    trace: Trace, recording: Recording, first: int, trained: bool
) -> dict[str, float | None]:
    """normalised_entropy of requests `first`.. (1: no better than the click rate alone) and
    normalised_entropy_fresh, that of embeddings computed for each request (None where unknown)."""
    rows = slice(int(trace.offsets[first]), None)
    clicks = trace.labels.get("click")
    if clicks is None:
        return {"normalised_entropy": None, "normalised_entropy_fresh": None}
    clicks = clicks[rows]
    if trained:
        found = normalised_entropy(clicks, recording.scores[rows])
        return {"normalised_entropy": found, "normalised_entropy_fresh": None}
    if trace.truth is None:
        return {"normalised_entropy": None, "normalised_entropy_fresh": None}
    request = np.repeat(np.arange(len(trace)), np.diff(trace.offsets))[rows]
    items = trace.items[rows].astype(np.int64)
    served = affinity(trace.truth, recording.rows, request, items)
    fresh = affinity(trace.truth, trace.truth.user_vectors, request, items)
    default = (recording.source == Source.DEFAULT)[request]
    chance = fitted(served, default, clicks.astype(np.float64))
    return {
        "normalised_entropy": normalised_entropy(clicks, chance.astype(np.float32)),
        "normalised_entropy_fresh": normalised_entropy(
            clicks, sigmoid(trace.truth.scale * fresh + trace.truth.bias).astype(np.float32)
        ),
    }


def affinity(
    truth: Truth, vectors: NDArray[np.float16], request: NDArray[np.int64], items: NDArray[np.int64]
) -> F64:
    """Dot products of each row's user vector and item vector, float64 [rows]."""
    found = np.empty(len(items), dtype=np.float64)
    for start in range(0, len(items), _CHUNK):
        part = slice(start, start + _CHUNK)
        users = vectors[request[part]].astype(np.float32)
        found[part] = np.einsum("rd,rd->r", users, truth.item_vectors[items[part]])
    return found


def fitted(affinities: F64, default: NDArray[np.bool_], clicks: F64) -> F64:
    """Click probabilities of a logistic regression on [1, affinity, default], by Newton's method
    with a touch of ridge (a column may be constant). float64 [rows]."""
    columns = np.stack([np.ones(len(clicks)), affinities, default.astype(np.float64)], axis=1)
    weights = np.zeros(3)
    ridge = 1e-6 * len(clicks) * np.eye(3)
    for _ in range(_NEWTON_STEPS):
        chance = sigmoid(columns @ weights)
        slope = columns.T @ (chance - clicks) + ridge @ weights
        curve = (columns * (chance * (1 - chance))[:, None]).T @ columns + ridge
        weights -= np.linalg.solve(curve, slope)
    return sigmoid(columns @ weights)


def sigmoid(logits: F64) -> F64:
    """1 / (1 + exp(-x)), safe for any x."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -500, 500))))
