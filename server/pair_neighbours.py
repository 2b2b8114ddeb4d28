"""What users like this one have for an item: how absent pairs of one model are filled.

Invariant: a fill is made of embeddings of this item alone, of versions that are alike, seen in user
vectors of one version, the newest at most `fill_ttl_ms` ago, `least_weight` of them at least
(counted by age). Used on the event loop's thread; what is made of a sample of users is made beside
it and put in place on the loop.

"similar": per item a ridge regression of its embeddings on their users' vectors, read at the
vector of who asks: attention over all users that have the item, exact where embeddings are linear
in the user's vector. With little data it is close to the item's mean.
"clusters": the mean over the users of his cluster (k-means) that have the item: what SOLARIS does
(arXiv 2604.12110).

Sums over many users cannot be taken apart: the embeddings of a user who is invalidated stay in
them, nameless, until they have faded.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from predawn.csrc._aggregates import ItemAggregates
from predawn.server.clock import Clock
from predawn.server.request import F32, U8, U64, UserId
from predawn.server.user_clusters import Clusters, fit_clusters
from predawn.server.user_directions import Directions, fit_directions, share_kept
from predawn.server.user_sample import UserSample

__all__ = ["NeighbourKind", "NeighbourLimits", "Neighbours"]

NeighbourKind = Literal["similar", "clusters"]

_SAMPLE_LIMIT = 4_096
_FIRST_FIT = 64  # vectors; then at four times as many, up to once in a sample
_MEAN_NOISE = 1e-3  # next to none: the mean itself
_ENOUGH_KEPT = 0.9  # of what the best directions of now would keep
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class NeighbourLimits:
    """items: that are remembered; clusters: of users; directions: of user vectors that a
    regression is on; fill_ttl_ms: age of an item's newest embedding; half_life_ms: age at which
    one counts half; noise: the ridge of "similar" (csrc/item_regression.hpp): 1 takes embeddings
    for as noisy as they differ between users, per direction; least_weight: embeddings below which
    an item fills nothing, counted by age."""

    items: int = 4_096
    clusters: int = 64
    directions: int = 24
    fill_ttl_ms: int = 86_400_000
    half_life_ms: int = 7 * 86_400_000
    noise: float = 1.0
    least_weight: float = 0.5


class Neighbours:
    """dim: of the pair embeddings. Memory: `bytes` of the native table, made here, and a sample of
    users; "clusters" remembers (cluster, item) pairs, as many as take about the same memory.
    in_thread: False where threads have no place (virtual time): refreshes are made on the loop."""

    def __init__(
        self,
        kind: NeighbourKind,
        dim: int,
        limits: NeighbourLimits,
        clock: Clock,
        seed: int,
        *,
        in_thread: bool = True,
    ) -> None:
        self._kind: NeighbourKind = kind
        self._limits = limits
        self._in_thread = in_thread
        self._clock = clock
        self._rng = np.random.default_rng(seed)
        self._table = _table(kind, dim, limits)
        self._sample = UserSample(_SAMPLE_LIMIT)
        self._fitted: Directions | Clusters | None = None
        self._alike: frozenset[int] | None = None
        self._made_of: set[int] = set()  # versions of the pair model
        self._user_version: int | None = None
        self._generation = 0  # of the user vectors: what was fitted to others is dropped
        self._due = asyncio.Event()
        self._next_fit = _FIRST_FIT
        self._refreshes = 0

    def learn(self, vector: F32) -> None:
        """float32 [d], of a user who has asked. Vectors of another length are another model's:
        everything starts anew. One that is not finite is left out."""
        if self._sample.user_dim not in (0, len(vector)):
            self._start_anew()
        if not np.isfinite(vector).all():
            return
        self._sample.add(vector)
        if self._sample.seen >= self._next_fit:
            self._next_fit = min(4 * self._next_fit, self._sample.seen + _SAMPLE_LIMIT)
            self._due.set()

    def add(self, user: UserId, vector: F32, items: U64, rows: F32, version: int) -> None:
        """Embeddings `rows` [n, dim] of `user` with `items` [n] have landed, computed by `version`
        of the pair model; `vector`: his at his last request. Those of a version that does not
        serve are left out."""
        del user  # sums name nobody
        if self._alike is not None and version not in self._alike:
            return
        known = self._known(vector, items)
        if known is not None:
            keys, features = known
            self._made_of.add(version)
            repeated: F32 = np.broadcast_to(features, (len(keys), len(features))).copy()
            self._table.add(keys, repeated, rows, self._clock.wall_ms())

    def fill(self, vector: F32, items: U64, rows: F32, missing: U8) -> U8:
        """Writes the rows [n, dim] of those `missing` (1) that there is something for; returns 1
        where it did, uint8 [n]. The other rows stay."""
        found: U8 = np.zeros(len(items), dtype=np.uint8)
        known = self._known(vector, items)
        if known is not None:
            weights: F32 = np.empty(len(items), dtype=np.float32)
            self._table.read(
                known[0],
                missing,
                known[1],
                self._clock.wall_ms(),
                self._limits.fill_ttl_ms,
                self._limits.least_weight,
                rows,
                weights,
                found,
            )
        return found

    def replace_version(self, version: int, alike: Collection[int] = ()) -> None:
        """From now on `version` of the pair model serves, and those `alike`. What is known of the
        items is forgotten where it is made of others, too."""
        self._alike = frozenset({version, *alike})
        if not self._made_of <= self._alike:
            self._forget_items()

    def replace_user_version(self, version: int) -> None:
        """From now on user vectors are of `version` of their model: those before are forgotten,
        and all that was made of them."""
        if version != self._user_version:
            self._start_anew()
        self._user_version = version

    def refresh(self) -> None:
        """Fits directions or clusters to the users of now, here."""
        if len(sample := self._sample.rows()):
            self._put_in_place(self._fit(sample, self._fitted))

    async def run(self) -> None:
        """Refreshes as users come, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            if not self._in_thread:
                self.refresh()
                continue
            generation, before, sample = self._generation, self._fitted, self._sample.rows()
            if len(sample):
                fitted = await asyncio.to_thread(self._fit, sample, before)
                if generation == self._generation:
                    self._put_in_place(fitted)

    def report(self) -> dict[str, Any]:
        """JSON-ready: what is remembered and its bounds."""
        table = self._table
        return {
            "kind": self._kind,
            "entries": table.used,
            "capacity": table.capacity,
            "evictions": table.evictions,
            "bytes": table.bytes,
            "refreshes": self._refreshes,
            "ready": self._fitted is not None,
        }

    def _known(self, vector: F32, items: U64) -> tuple[U64, F32] | None:
        """Keys [n] and features [F] for the native table; None: nothing is known of such users."""
        fitted = self._fitted
        if fitted is None or len(vector) != self._sample.user_dim:
            return None
        items = np.ascontiguousarray(items)
        if isinstance(fitted, Directions):
            return items, fitted.features(vector)
        return _mixed(items, fitted.nearest(vector)), np.ones(1, dtype=np.float32)

    def _fit(self, sample: F32, before: Directions | Clusters | None) -> Directions | Clusters:
        """From any thread, one at a time: a pure function of its arguments and of the seed."""
        limits = self._limits
        if self._kind == "clusters":
            clusters = before if isinstance(before, Clusters) else None
            return fit_clusters(sample, limits.clusters, self._rng, clusters)
        if isinstance(before, Directions) and share_kept(before, sample) >= _ENOUGH_KEPT:
            return before
        return fit_directions(sample, limits.directions)

    def _put_in_place(self, fitted: Directions | Clusters) -> None:
        if isinstance(fitted, Directions) and fitted is not self._fitted:
            self._forget_items()  # regressions on other directions
        self._fitted = fitted
        self._refreshes += 1

    def _forget_items(self) -> None:
        self._table.forget()
        self._made_of.clear()

    def _start_anew(self) -> None:
        self._forget_items()
        self._sample.forget()
        self._fitted = None
        self._generation += 1
        self._next_fit = _FIRST_FIT


def _table(kind: NeighbourKind, dim: int, limits: NeighbourLimits) -> ItemAggregates:
    features = limits.directions + 1
    if kind == "similar":
        return ItemAggregates(limits.items, features, dim, limits.half_life_ms, limits.noise)
    return ItemAggregates(limits.items * features, 1, dim, limits.half_life_ms, _MEAN_NOISE)


def _mixed(items: U64, cluster: int) -> U64:
    """Keys of (cluster, item): the finaliser of SplitMix64 over both."""
    values = items ^ np.uint64(cluster * int(_MIX_1) % 2**64)
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
