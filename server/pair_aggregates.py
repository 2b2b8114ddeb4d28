"""What is known of a user by his pairs together: their running mean, or that of his last ones.

Invariant: a row here was made of embeddings of its own user alone, of versions that are alike, all
landed after his last invalidation; its age is that of the newest of them, and one that nothing was
added to for the rules' `ttl_ms` starts anew. Rows lie in native tables beside the pairs, in the
same place: a restart is warm, and servers that share a store share them.

The mean of all follows the user: the newest embedding has a weight of 1/64 at least, so what is
older fades. Of the last ones (LoopFM's ring) the values themselves are kept, too, and their plain
mean is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.csrc import _core
from predawn.server.cache_place import Holds, StorePlace, TableSpec, opened
from predawn.server.errors import ConfigError
from predawn.server.request import F32, I64, U64, Source, UserId

FADES_AFTER = 64  # embeddings: the newest has a weight of 1 in so many at least
_PAIRS_A_USER = 16  # room is for one user to so many pairs
_USERS_LEAST = 1_024
_ROW_LIMIT = 65_536  # values of one row of a table
_KINDS_OF_MEANS = (Source.USER_MEAN, Source.RECENT)


@dataclass(frozen=True, slots=True)
class FillRules:
    """What is served of an absent pair. order: of `Source`, the first that is there; a user has
    USER_MEAN and RECENT both or none, so of these two only the first is ever served. ttl_ms: a
    fill made of nothing younger is not served; recent_length: embeddings of a user's ring."""

    order: tuple[Source, ...] = ()
    ttl_ms: int = 86_400_000
    recent_length: int = 0

    @property
    def mean(self) -> Source:
        """The mean of the user's own pairs that is kept and served; DEFAULT: none."""
        return next((level for level in self.order if level in _KINDS_OF_MEANS), Source.DEFAULT)

    def after(self, level: Source) -> frozenset[int]:
        """The sources of an absent pair that `level` is preferred to; none if it is not there."""
        if level not in self.order:
            return frozenset()
        later = self.order[self.order.index(level) + 1 :]
        return frozenset({*map(int, later), int(Source.DEFAULT)})


@dataclass(frozen=True, slots=True)
class Landing:
    """Embeddings of distinct users of one id kind that landed together. rows: float32 [n, dim],
    user by user, in the order of time; counts: of each, at least 1."""

    users: Sequence[UserId]
    rows: F32
    counts: Sequence[int]
    now_ms: int
    snapshot: int


class UserAggregates:
    """The means of one pair model and id kind. `served`: the native table whose rows begin with
    what is served."""

    def __init__(
        self, spec: TableSpec, rules: FillRules, place: StorePlace, kind: int, seed: bytes
    ) -> None:
        """Makes the tables or attaches those that are there; errors as of `opened`."""
        self._dim = spec.dim
        self._ttl_ms = rules.ttl_ms
        self._length = rules.recent_length if rules.mean is Source.RECENT else 0
        holds: Holds = "recent" if self._length else "means"
        self.served = opened(_beside(spec, holds, spec.dim + 1, "fp32"), place, kind, seed)
        self._ring: _core.EmbeddingCache | None = None
        if self._length:
            values = self._length * spec.dim
            self._ring = opened(_beside(spec, "ring", values, _ring_dtype(spec)), place, kind, seed)

    def add(self, landing: Landing, invalidated_ms: I64, alike: NDArray[np.uint32]) -> None:
        """Takes new embeddings in: one read and one write a table. invalidated_ms: int64 [users],
        since the last invalidation of each, -1: none; alike: versions that may be mixed with that
        of the landing; none: all."""
        counts = np.array(landing.counts)
        starts = np.cumsum(counts) - counts
        if self._ring is None:
            served = self._running_means(landing, counts, starts, invalidated_ms, alike)
        else:
            served = self._recent_means(landing, counts, starts, invalidated_ms, alike)
        self._write(self.served, landing, served)

    def forget(self, users: Sequence[UserId]) -> None:
        """Removes what is known of `users`."""
        for table in self._tables():
            table.invalidate_many(_keys(table, users))

    def tables(self) -> dict[str, _core.EmbeddingCache]:
        """By name, for walks over all."""
        names = ("means", "ring")
        return dict(zip(names, self._tables(), strict=False))

    def _tables(self) -> list[_core.EmbeddingCache]:
        return [self.served] if self._ring is None else [self.served, self._ring]

    def _running_means(
        self,
        landing: Landing,
        counts: NDArray[np.int64],
        starts: NDArray[np.int64],
        invalidated_ms: I64,
        alike: NDArray[np.uint32],
    ) -> F32:
        """[users, dim + 1], the last: how many embeddings it stands for, FADES_AFTER at most."""
        before = np.zeros((len(counts), self._dim + 1), dtype=np.float32)
        self._read(self.served, landing, invalidated_ms, alike, before)
        weighed = before[:, -1]
        weights = np.maximum(counts / (weighed + counts), np.minimum(1, counts / FADES_AFTER))
        means = np.add.reduceat(landing.rows, starts, axis=0) / counts[:, None]
        before[:, :-1] += (means - before[:, :-1]) * weights[:, None]
        before[:, -1] = np.minimum(weighed + counts, FADES_AFTER)
        return before

    def _recent_means(
        self,
        landing: Landing,
        counts: NDArray[np.int64],
        starts: NDArray[np.int64],
        invalidated_ms: I64,
        alike: NDArray[np.uint32],
    ) -> F32:
        """[users, dim + 1], the last: how many embeddings there are; writes the rings, newest
        first."""
        ring = self._ring
        assert ring is not None
        users, length = len(counts), self._length
        kept = np.full((users, length * self._dim), np.nan, dtype=np.float32)
        self._read(ring, landing, invalidated_ms, alike, kept)
        rings = kept.reshape(users, length, self._dim)
        for at, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
            new = landing.rows[start : start + count][::-1][:length]
            rings[at, len(new) :] = rings[at, : length - len(new)].copy()
            rings[at, : len(new)] = new
        self._write(ring, landing, kept)
        served = np.empty((users, self._dim + 1), dtype=np.float32)
        filled = (~np.isnan(rings[:, :, 0])).sum(axis=1)
        served[:, :-1] = np.nansum(rings, axis=1) / filled[:, None]
        served[:, -1] = filled
        return served

    def _read(
        self,
        table: _core.EmbeddingCache,
        landing: Landing,
        invalidated_ms: I64,
        alike: NDArray[np.uint32],
        rows: F32,
    ) -> None:
        """Into `rows`, those that may be added to; the others stay as they are."""
        n = len(landing.users)
        found, ages = np.empty_like(rows), np.empty(n, dtype=np.int64)
        versions = np.empty(n, dtype=np.uint32)
        keys = _keys(table, landing.users)
        table.get_many(keys, landing.now_ms, self._ttl_ms, found, ages, versions)
        good = (ages >= 0) & ((invalidated_ms < 0) | (ages < invalidated_ms))
        if len(alike):
            good &= np.isin(versions, alike)
        rows[good] = found[good]

    def _write(self, table: _core.EmbeddingCache, landing: Landing, rows: F32) -> None:
        keys = _keys(table, landing.users)
        table.put_many(keys, rows, landing.now_ms, landing.snapshot, _core.ORIGIN_COMPUTED)


def checked(spec: TableSpec, rules: FillRules) -> FillRules:
    """`rules`, if a row can hold what they keep of a user; else ConfigError."""
    if rules.recent_length * spec.dim > _ROW_LIMIT:
        raise ConfigError(
            f"pairs.{spec.model}.recent_length",
            f"at most {_ROW_LIMIT // spec.dim} embeddings of {spec.dim} values are kept a user",
        )
    return rules


def _beside(spec: TableSpec, holds: Holds, dim: int, dtype: str) -> TableSpec:
    return TableSpec(
        spec.model,
        dim=dim,
        average_over=1,
        dtype=dtype,
        capacity=min(spec.capacity, max(_USERS_LEAST, spec.capacity // _PAIRS_A_USER)),
        default=np.zeros(dim, dtype=np.float32),
        holds=holds,
    )


def _ring_dtype(spec: TableSpec) -> str:
    """int8 has one scale a row, and cannot mark a single place as empty."""
    return "bf16" if spec.dtype == "int8" else spec.dtype


def _keys(table: _core.EmbeddingCache, users: Sequence[UserId]) -> U64:
    """Keys [n, 2] of users of the table's id kind."""
    keys: U64 = np.zeros((len(users), 2), dtype=np.uint64)
    for i, user in enumerate(users):
        keys[i] = table.key_of_string(user) if isinstance(user, str) else (user, 0)
    return keys
