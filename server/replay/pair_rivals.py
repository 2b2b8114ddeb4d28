"""What a replay of pairs is compared with: plain rules, oracles, distillation.

Invariant: none of them runs any of the server's code; all are held to the same budget, ttl and
capacity, and measured on the same asks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predawn.server.replay.loss import affinity
from predawn.server.replay.pair_asks import Asks, own_history
from predawn.server.replay.pair_distilled import distilled
from predawn.server.replay.pair_loss import PairLoss, Served, products
from predawn.server.replay.pair_options import PairOptions
from predawn.server.replay.pair_oracles import best, clairvoyant, same_candidates
from predawn.server.replay.pair_plain import (
    LastLists,
    MissesOnly,
    Plain,
    Rule,
    TopScored,
    run,
    terms_of,
)
from predawn.server.request import F32, Source
from predawn.server.traces import Trace

_LISTS, _POPULAR = 10, 256


@dataclass(frozen=True, slots=True)
class Rivals:
    """What a trace allows whatever the server does: computed once for all budgets."""

    trace: Trace
    asks: Asks
    loss: PairLoss | None
    scores: F32

    def of(self, options: PairOptions) -> dict[str, Any]:
        """Plain rules and oracles under the budget, ttl and capacity of `options`, and what
        distillation keeps."""
        asks = self.asks
        terms = terms_of(asks, options.budget, options.ttl_ms, options.capacity)
        rules: dict[str, Rule] = {
            "no speculation": MissesOnly(),
            "last list": LastLists(asks, 1),
            "last 3": LastLists(asks, 3),
            "last 10": LastLists(asks, 10),
            "ranker score": TopScored(asks, self.scores, _LISTS),
        }
        plain = {name: run(asks, terms, rule) for name, rule in rules.items()}
        known = {
            "clairvoyant": clairvoyant(asks, options.ttl_ms),
            "same candidates": same_candidates(asks, options.ttl_ms, _LISTS, _POPULAR),
        }
        return {
            "baselines": {name: self._figures(each) for name, each in plain.items()},
            "oracles": {name: best(windows, asks, terms) for name, windows in known.items()},
            "own_history": own_history(asks),
        }

    def distillation(self, seed: int) -> dict[str, Any]:
        """What students keep that learn from the foundation model's click probabilities."""
        if self.loss is None:
            return {}
        asks, soft = self.asks, self.loss.soft_labels
        found = {"distilled": self.loss.of_logits(distilled(asks, soft, None, seed))}
        if self.trace.truth is not None:
            vectors = self.trace.truth.user_vectors.astype(np.float32)
            given = distilled(asks, soft, vectors, seed)
            found["distilled, given the user's vector"] = self.loss.of_logits(given)
        return found

    def _figures(self, plain: Plain) -> dict[str, Any]:
        found = plain.figures(self.asks)
        truth = self.trace.truth
        if self.loss is None or truth is None:
            return found
        computed_at = plain.computed_at.astype(np.int64)
        rows = products(truth, computed_at, self.trace.items.astype(np.int64))
        sources = np.where(computed_at >= 0, Source.DIRECT, Source.DEFAULT).astype(np.uint8)
        return found | {"kept": self.loss.of(Served(rows, sources))["kept"]}


def judge(trace: Trace, asks: Asks, fresh: NDArray[np.float16] | None) -> PairLoss | None:
    """Measures ranking loss; fresh: the foundation model's own embeddings of all rows, None: the
    truth's. None where nobody clicks, or both are missing."""
    if "click" not in trace.labels or (fresh is None and trace.truth is None):
        return None
    if fresh is None:
        assert trace.truth is not None
        fresh = products(trace.truth, asks.request, trace.items.astype(np.int64))
    return PairLoss(trace, int(asks.offsets[asks.first]), fresh)


def rivals_of(trace: Trace, asks: Asks, loss: PairLoss | None, scores: F32) -> Rivals:
    """scores: float32 [rows], of the replayed ranker; with the trace's truth the paper's rule gets
    the true affinities instead, the best a ranker could say."""
    truth = trace.truth
    if truth is not None:
        items = trace.items.astype(np.int64)
        scores = affinity(truth, truth.user_vectors, asks.request, items).astype(np.float32)
    return Rivals(trace, asks, loss, scores)
