"""The pair models' part of the request path: one read, and word of what was missed.

Invariant: every candidate of every pair model of the ranker has a row and a source; a row that is
not the default was computed for exactly this pair, at most the model's ttl ago. Nothing is waited
for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from predawn.server.metrics import Metrics
from predawn.server.pair_cache import PairCache
from predawn.server.policy import Ages, Mode, decide_one
from predawn.server.request import U64, PairRows, RankRequest, Source, UserId

AskPairs: TypeAlias = Callable[[str, UserId, U64], None]
"""Has pairs of a model, a user and items computed behind the requests: `MissedPairs.ask`."""


class PairReader:
    """ttls_ms: by pair model, of the policy table's column `solaris`."""

    def __init__(
        self, cache: PairCache, ttls_ms: Mapping[str, int], ask: AskPairs, metrics: Metrics
    ) -> None:
        self._cache = cache
        self._ttls_ms = ttls_ms
        self._ask = ask
        self._metrics = metrics
        there, absent = (decide_one(Mode.SOLARIS, age_ms, Ages(0, 0)) for age_ms in (0, -1))
        self._sources = np.array([there.source, absent.source], dtype=np.uint8)

    def read(self, models: Sequence[str], request: RankRequest) -> dict[str, PairRows]:
        """By model, the embeddings of the request's user with its candidates."""
        return {model: self._read(model, request) for model in models}

    def after_reply(self, request: RankRequest, pairs: Mapping[str, PairRows]) -> None:
        """Asks for the pairs that were absent or too old, and counts."""
        for model, rows in pairs.items():
            known = rows.ages_ms >= 0
            self._metrics.served_pairs(model, rows.counts, rows.ages_ms[known])
            if rows.counts[Source.DEFAULT]:
                self._ask(model, request.user, request.item_hashes[~known])

    def _read(self, model: str, request: RankRequest) -> PairRows:
        items = request.item_hashes
        reading = self._cache.read(model, request.user, items, self._ttls_ms[model])
        absent = reading.ages_ms < 0
        sources = self._sources[absent.view(np.uint8)]
        counts = np.bincount(sources, minlength=len(Source)).tolist()
        return PairRows(reading.rows, sources, reading.ages_ms, counts)
