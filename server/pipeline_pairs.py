"""The pair models' part of the request path: one read, and word of what was asked.

Invariant: every candidate of every pair model of the ranker has a row, a source and an age; a row
whose source is DIRECT was computed for exactly this pair, at most the model's ttl ago. Nothing is
waited for.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from predawn.server.metrics import Metrics
from predawn.server.pair_cache import PairCache
from predawn.server.request import F32, PairRows, RankReply, RankRequest, Source, UserRow


class HearsPairs(Protocol):
    """Has pairs computed, of those that were asked for and of others: told of every request."""

    def asked(
        self, model: str, request: RankRequest, rows: PairRows, scores: F32, vector: F32 | None
    ) -> None:
        """After the reply: what the request was served of the model's pairs; scores: float32 [n],
        of its candidates; vector: the user's embedding of the ranker's first user model, None
        where there was none."""
        ...


class PairReader:
    """ttls_ms: by pair model, of the policy table's column `solaris`."""

    def __init__(
        self, cache: PairCache, ttls_ms: Mapping[str, int], hears: HearsPairs, metrics: Metrics
    ) -> None:
        self._cache = cache
        self._ttls_ms = ttls_ms
        self._hears = hears
        self._metrics = metrics

    def read(
        self, models: Sequence[str], request: RankRequest, users: Mapping[str, UserRow]
    ) -> dict[str, PairRows]:
        """By model, the embeddings of the request's user with its candidates. users: his own, in
        the ranker's order of user models."""
        vector = self._vector_of(users) if models else None
        return {model: self._read(model, request, vector) for model in models}

    def after_reply(self, request: RankRequest, reply: RankReply) -> None:
        """Counts, and tells of what was asked."""
        if not reply.pairs:
            return
        vector, renewed_by = self._vector_of(reply.users), _renewed_by(reply.users)
        for model, rows in reply.pairs.items():
            direct = rows.sources == Source.DIRECT
            self._metrics.served_pairs(model, rows.counts, rows.ages_ms[direct])
            self._cache.heard(model, request.user, vector, renewed_by)
            self._hears.asked(model, request, rows, reply.scores, vector)

    def _read(self, model: str, request: RankRequest, vector: F32 | None) -> PairRows:
        ttl_ms = self._ttls_ms[model]
        reading = self._cache.read(model, request.user, request.item_hashes, ttl_ms, vector)
        counts = np.bincount(reading.sources, minlength=len(Source)).tolist()
        return PairRows(reading.rows, reading.sources, reading.ages_ms, counts)

    def _vector_of(self, users: Mapping[str, UserRow]) -> F32 | None:
        """The user's embedding of the first model, None where nothing is known of him, or only by
        a version that others are not known by any more."""
        for model, row in users.items():
            known = row.source is not Source.DEFAULT and self._cache.knows_by(model, row.snapshot)
            return row.row if known else None
        return None


def _renewed_by(users: Mapping[str, UserRow]) -> str:
    """The model that is computing a newer embedding of the user behind the request, "": none. One
    that does not, though it was old or missing, costs little: his next request tells."""
    for model, row in users.items():
        return model if row.source in (Source.STALE, Source.DEFAULT) else ""
    return ""
