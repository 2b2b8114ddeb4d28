"""The trained models on the serving path, fed from the trace instead of requests: held-out scores.

Tower in inference, rounding to the store's fp16, the ranker as it is served.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from predawn.server.models.ranker import Ranker
from predawn.server.models.ranker_training import RankerNet, ranker_tensors
from predawn.server.models.snapshots import Tensors
from predawn.server.models.training_metrics import auc, normalised_entropy
from predawn.server.models.training_pairs import PairPart, share_of_gain
from predawn.server.models.training_run import Run
from predawn.server.models.user_tower import TowerNet, UserTower, untrained_tower
from predawn.server.request import F32, I64, RankBatch, Source
from predawn.server.stabilise import compress
from predawn.server.traces_data import jagged_rows

_CHUNK = 4096


def measure(labels: F32, scores: F32, tasks: tuple[str, ...]) -> dict[str, Any]:
    """{"auc": {task: float}, "normalised_entropy": of the first task or None}."""
    found = {task: auc(labels[:, i], scores[:, i]) for i, task in enumerate(tasks)}
    return {
        "auc": {task: value for task, value in found.items() if value is not None},
        "normalised_entropy": normalised_entropy(labels[:, 0], scores[:, 0]),
    }


class Served:
    """The trained models as a server runs it, fed from the trace instead of requests."""

    def __init__(
        self, run: Run, tower: TowerNet, ranker: RankerNet, pairs: PairPart | None = None
    ) -> None:
        self._run, self._pairs = run, pairs
        prior = run.prior.astype(np.float32)
        self._tower = UserTower(_copy(tower), prior)
        self.ranker_tensors: Tensors = ranker_tensors(
            ranker, run.items.table, run.items.encoding, run.items.standard
        )
        self._ranker = Ranker(run.ranker_shape, self.ranker_tensors)

    def held_out(self, covered: bool = True) -> tuple[I64, F32]:
        """Rows of the held-out requests, and their scores."""
        requests = self._run.held_out()
        rows = jagged_rows(np.diff(self._run.trace.offsets), requests)
        return rows, self.scores(requests, covered)

    def compare(
        self, pairs: PairPart, without: dict[str, Any] | None, figures: dict[str, Any]
    ) -> dict[str, Any]:
        """Held-out figures: of the foundation model itself, of a ranker without it, of this one
        when no pair is there, and how much of the gain it shows when all are."""
        run = self._run
        rows, missing = self.held_out(covered=False)
        itself = measure(run.labels[rows], pairs.scores(rows), run.tasks)
        return {
            "itself": itself,
            "without": without,
            "missing": measure(run.labels[rows], missing, run.tasks),
            "gain_kept": share_of_gain(
                without["normalised_entropy"] if without else None,
                itself["normalised_entropy"],
                figures["normalised_entropy"],
            ),
        }

    def scores(self, requests: I64, covered: bool = True) -> F32:
        """float32 [rows of the requests, tasks], every user, and every pair if `covered`, computed
        just before the request."""
        parts = [
            self._some(requests[i : i + _CHUNK], covered) for i in range(0, len(requests), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self._run.tasks)), np.float32)

    def default(self) -> F32:
        """Mean embedding of the users met in training. float32 [dim]."""
        mean: F32 = (
            self._embed(self._run.newest()).mean(axis=0, dtype=np.float64).astype(np.float32)
        )
        return mean

    def _embed(self, requests: I64) -> F32:
        states = self._run.states(requests, self._run.trace.t_ms[requests])
        return compress(self._tower.embed_features(states), "fp16")

    def _some(self, requests: I64, covered: bool) -> F32:
        trace = self._run.trace
        counts = np.diff(trace.offsets)
        rows = jagged_rows(counts, requests)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[requests])])
        sources = np.full((len(requests), 1), Source.COMPUTED, np.uint8)
        batch = RankBatch(
            self._embed(requests),
            sources,
            offsets,
            trace.items[rows],
            trace.item_features[rows],
        )
        if self._pairs is not None:
            batch = replace(batch, **self._pair_columns(self._pairs, requests, covered))
        return self._ranker.score(batch)

    def _pair_columns(self, pairs: PairPart, requests: I64, covered: bool) -> dict[str, Any]:
        rows = int(np.diff(self._run.trace.offsets)[requests].sum())
        if not covered:
            nothing = np.zeros((rows, pairs.net.shape.dim), np.float32)
            return {
                "pairs": nothing,
                "pair_sources": np.full((rows, 1), Source.DEFAULT, np.uint8),
            }
        return {
            "pairs": pairs.embeddings(requests, self._run.trace.t_ms[requests]),
            "pair_sources": np.full((rows, 1), Source.DIRECT, np.uint8),
        }


def _copy(tower: TowerNet) -> TowerNet:
    """Inference converts a network to float64 in place; the snapshot keeps the float32 one."""
    copy = untrained_tower(tower.shape, seed=0)
    copy.load_state_dict(tower.state_dict())
    return copy
