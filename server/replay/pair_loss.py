"""What served pair embeddings keep of the foundation model's own gain in ranking loss.

A light ranker is fitted to what was served, as the rankers of a server are: per source of the
embedding a logistic regression on its values. It is fitted to the clicks of the first half of the
counted rows and measured on the second, so that no fit flatters itself; few weights against many
rows. With the trace's truth the expected loss over all clicks that might have been is measured,
else that of the clicks that were. Kept is (no_fm - served) / (no_fm - fm): "no_fm" is the same
ranker without the embedding, "fm" with that of every pair computed for its own request.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predawn.server.replay.loss import affinity, sigmoid
from predawn.server.request import F32, I64, U8, Source
from predawn.server.traces import Trace, Truth

F16 = NDArray[np.float16]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_CHUNK = 200_000
_NEWTON_STEPS = 10
_RIDGE, _RIDGE_CONSTANT = 1.0, 1e-3
_LEAST = 1e-7  # chance
_NO_GAIN = 1e-5  # nats a row


@dataclass(frozen=True, slots=True)
class Served:
    """Pair embeddings of a trace's rows as they were served. rows: float16 [rows, dim], 0 where
    unknown; sources: uint8 [rows], `Source`."""

    rows: F16
    sources: U8


class PairLoss:
    """fresh: float16 [rows, dim], of every pair computed for its own request; first: the first row
    that counts; only: bool [rows], those that count among them, None: all. soft_labels: float32
    [rows], the foundation model's own click probabilities."""

    def __init__(self, trace: Trace, first: int, fresh: F16, only: Bools | None = None) -> None:
        self._clicks = trace.clicked
        counted = np.flatnonzero(np.ones(trace.rows, np.bool_) if only is None else only)
        middle = (first + trace.rows) // 2
        self._fitted = counted[(counted >= first) & (counted < middle)]
        self._measured = counted[counted >= middle]
        self._is_fitted = np.zeros(trace.rows, dtype=np.bool_)
        self._is_fitted[self._fitted] = True
        self._target = self._chances(trace)
        every = np.zeros(trace.rows, dtype=np.uint8)
        nothing = np.zeros((trace.rows, 0), dtype=np.float16)
        self._no_fm = self._entropy(self._chance(nothing, every)[self._measured])
        self.soft_labels: F32 = self._chance(fresh, every)
        self._fm = self._entropy(self.soft_labels[self._measured])

    def of(self, served: Served) -> dict[str, Any]:
        """Normalised entropies (1: no better than the click rate) and the share kept, in all and
        of the candidates of each source."""
        entropy = self._entropy(self._chance(served.rows, served.sources)[self._measured])
        found = self._shares(entropy)
        sources = served.sources[self._measured]
        levels: dict[str, Any] = {}
        for source in np.unique(sources).tolist():
            mine = sources == source
            levels[Source(source).label] = {
                "share": float(mine.mean()),
                "kept": self._kept(entropy[mine].sum(), mine),
            }
        return found | {"levels": levels}

    def of_logits(self, logits: F32) -> dict[str, Any]:
        """The same of a ranker on its own, its logits float32 [rows] put to scale."""
        chance = self._chance(logits[:, None], np.zeros(len(logits), dtype=np.uint8))
        return self._shares(self._entropy(chance[self._measured]))

    def _shares(self, entropy: F64) -> dict[str, Any]:
        return {
            "no_fm": self._normalised(self._no_fm),
            "fm": self._normalised(self._fm),
            "served": self._normalised(entropy),
            "kept": self._kept(entropy.sum(), np.ones(len(entropy), dtype=np.bool_)),
        }

    def _kept(self, entropy: float, rows: Bools) -> float | None:
        """None where the foundation model itself gains nothing."""
        without, gain = self._no_fm[rows].sum(), (self._no_fm - self._fm)[rows].sum()
        return float((without - entropy) / gain) if gain > _NO_GAIN * rows.sum() else None

    def _chances(self, trace: Trace) -> F64:
        """What the measured rows are measured by: float64 of each."""
        if trace.truth is None:
            return self._clicks[self._measured].astype(np.float64)
        request = np.repeat(np.arange(len(trace), dtype=np.int64), np.diff(trace.offsets))
        items, truth = trace.items[self._measured].astype(np.int64), trace.truth
        true = affinity(truth, truth.user_vectors, request[self._measured], items)
        return sigmoid(truth.scale * true + truth.bias)

    def _chance(self, columns: NDArray[Any], groups: U8) -> F32:
        """Click probabilities of all rows by a ranker fitted group by group. float32 [rows]."""
        found = np.empty(len(groups), dtype=np.float32)
        rate = np.clip([self._clicks[self._fitted].mean()], _LEAST, 1 - _LEAST)
        for group in np.unique(groups).tolist():
            mine = np.flatnonzero(groups == group)
            known = mine[self._is_fitted[mine]]
            constant = np.log(rate / (1 - rate))
            weights = fitted_weights(columns[known], self._clicks[known], constant)
            for start in range(0, len(mine), _CHUNK):
                part = mine[start : start + _CHUNK]
                found[part] = sigmoid(_with_constant(columns[part]) @ weights)
        return found

    def _entropy(self, chance: F32) -> F64:
        """Expected cross-entropy of every measured row, in nats."""
        sure = np.clip(chance.astype(np.float64), _LEAST, 1 - _LEAST)
        return np.asarray(-(self._target * np.log(sure) + (1 - self._target) * np.log1p(-sure)))

    def _normalised(self, entropy: F64) -> float:
        rate = np.clip(self._target.mean(), _LEAST, 1 - _LEAST)
        alone = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        return float(entropy.mean() / alone)


def fitted_weights(columns: NDArray[Any], clicks: Bools, constant: F64) -> F64:
    """Weights [1 + columns] of a logistic regression, the constant's first, by Newton's method from
    `constant` [1] alone; with a little ridge, since a column may be 0 throughout."""
    wide, target = _with_constant(columns), clicks.astype(np.float64)
    weights = np.concatenate([constant, np.zeros(columns.shape[1])])
    ridge = np.array([_RIDGE_CONSTANT, *[_RIDGE] * columns.shape[1]])
    for _ in range(_NEWTON_STEPS if len(wide) else 0):
        chance = sigmoid(wide @ weights)
        slope = wide.T @ (chance - target) + ridge * weights
        curve = (wide * (chance * (1 - chance))[:, None]).T @ wide + np.diag(ridge)
        weights = weights - np.linalg.solve(curve, slope)
    return weights


def products(truth: Truth, request: I64, items: I64) -> F16:
    """Pair embeddings of the true foundation model: user vector at `request` times item vector,
    value by value; 0 where `request` is -1. float16 [rows, d]."""
    found = np.zeros((len(items), truth.item_vectors.shape[1]), dtype=np.float16)
    known = np.flatnonzero(request >= 0)
    for start in range(0, len(known), _CHUNK):
        part = known[start : start + _CHUNK]
        users = truth.user_vectors[request[part]].astype(np.float32)
        found[part] = users * truth.item_vectors[items[part]]
    return found


def _with_constant(columns: NDArray[Any]) -> F64:
    return np.concatenate([np.ones((len(columns), 1)), columns.astype(np.float64)], axis=1)
