"""The learned pair predictor: the model of csrc/predictor.hpp behind the protocol.

Invariant: memory is bounded by `PredictorLimits`, taken at creation. String users are known by
their 64-bit hash and its kind, so an integer user and a string never meet.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from predawn.csrc._core import stable_hash
from predawn.csrc._predictor import THRESHOLDS, Predictor
from predawn.server.request import F32, U8, U64, UserId
from predawn.server.speculation.contract import NOTHING, PredictsPairs, Proposal
from predawn.server.speculation.rules import RecentPairs, ScoredPairs

F64 = NDArray[np.float64]
PredictorKind = Literal["learned", "score", "recency"]


@dataclass(frozen=True, slots=True)
class PredictorLimits:
    """What a predictor remembers and proposes. ttl_ms: of the pair model; least_chance: pairs
    below it are not proposed; lists: last ones of a user."""

    ttl_ms: int
    users: int = 100_000
    items: int = 65_536
    lists: int = 10
    popular: int = 256
    least_chance: float = 0.02
    seed: int = 0


def predictor_of(kind: PredictorKind, limits: PredictorLimits) -> PredictsPairs:
    """The predictor that the configuration names."""
    if kind == "recency":
        return RecentPairs(limits.users, limits.lists)
    if kind == "score":
        return ScoredPairs(limits.users, limits.lists)
    return LearnedPairs(limits)


class LearnedPairs:
    """See the module and `PredictsPairs`."""

    def __init__(self, limits: PredictorLimits) -> None:
        self._limits = limits
        self._native = Predictor(
            users=limits.users,
            items=limits.items,
            lists=limits.lists,
            popular=limits.popular,
            ttl_ms=limits.ttl_ms,
            seed=limits.seed,
        )
        self._room(limits.popular)

    def asked(self, user: UserId, items: U64, scores: F32, known: U8, now_ms: int) -> None:
        """See `PredictsPairs`."""
        number, is_text = _number(user)
        self._native.asked(number, is_text, items, scores, known, now_ms)

    def propose(
        self, user: UserId, now_ms: int, limit: int, least: float = 0.0, missed: U64 = NOTHING
    ) -> Proposal:
        """See `PredictsPairs`. None below `least_chance`, which stands for nothing known."""
        most = limit + len(missed)
        if most > len(self._items):
            self._room(most)
        number, is_text = _number(user)
        items, chances, origins = self._items, self._chances, self._origins
        if most < len(items):
            items, chances, origins = items[:most], chances[:most], origins[:most]
        known = self._limits.least_chance
        n = self._native.propose_beside(
            number, is_text, now_ms, max(known, least), known, missed, items, chances, origins
        )
        return Proposal(user, items[:n].copy(), chances[:n].copy(), origins[:n].copy())

    def report(self) -> dict[str, Any]:
        """See `PredictsPairs`. Of chances said before their outcome, over the last one to two
        days, on a random sample of all pairs that were scored. recall: of the positives among
        those."""
        return report_of(self._native.reliability(), self._native.above()) | {
            "remembered": self._native.sizes()
        }

    def _room(self, pairs: int) -> None:
        """Where proposals are written."""
        self._items = np.empty(pairs, dtype=np.uint64)
        self._chances = np.empty(pairs, dtype=np.float32)
        self._origins = np.empty(pairs, dtype=np.uint8)


def report_of(reliability: F64, above: F64) -> dict[str, Any]:
    """JSON-ready figures from the sums that the native predictor keeps (`_predictor.pyi`)."""
    weights, said, came, squared = reliability.sum(axis=0).tolist()
    known = weights > 0
    gaps = np.abs(reliability[:, 1] - reliability[:, 2]).sum()
    return {
        "calibration": [_bin(i, len(reliability), *row) for i, row in enumerate(reliability)],
        "brier": squared / weights if known else None,
        "expected_calibration_error": float(gaps) / weights if known else None,
        "mean_chance": said / weights if known else None,
        "mean_outcome": came / weights if known else None,
        "thresholds": [
            {
                "chance": round(chance, 4),
                "precision": float(row[2] / row[0]) if row[0] > 0 else None,
                "recall": float(row[2] / came) if came > 0 else None,
            }
            for chance, row in zip(THRESHOLDS, above, strict=True)
        ],
    }


def _bin(number: int, bins: int, weight: float, said: float, came: float, _: float) -> Any:
    known = weight > 0
    return {
        "from": number / bins,
        "weight": float(weight),
        "said": float(said / weight) if known else None,
        "came": float(came / weight) if known else None,
    }


def _number(user: UserId) -> tuple[int, bool]:
    """The user as the native predictor knows him, and whether he is a string."""
    if isinstance(user, str):
        return stable_hash(user.encode()), True
    return user, False
