"""The native tables of one pair model and id kind of the user, and what can be asked of them.

Invariant: what is read was written for this user (and, where it is a pair's own, this item) after
the user's last invalidation; what was written in the very millisecond of one is taken for older.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.csrc import _core
from predawn.server.cache_place import StorePlace, TableSpec, opened
from predawn.server.pair_aggregates import FillRules, Landing, UserAggregates
from predawn.server.request import F32, I64, U8, U64, UserId, UserItems

_INVALIDATED_LIMIT = 65_536  # users; 10 MB
_SCANNED = 4_096  # entries of one step when all pairs go


@dataclass(frozen=True, slots=True)
class ReadRules:
    """now_ms, max_age_ms: of pairs themselves; fill_age_ms: of means; versions: uint32, those that
    serve, none: any."""

    now_ms: int
    max_age_ms: int
    fill_age_ms: int
    versions: NDArray[np.uint32]


class PairStores:
    """See the module. Made, or attached to where they are there; errors as of `opened`."""

    def __init__(
        self, spec: TableSpec, rules: FillRules, place: StorePlace, kind: int, seed: bytes
    ) -> None:
        # The invalidations first: pairs without them could not be taken back.
        beside = TableSpec(
            spec.model,
            dim=1,
            average_over=1,
            dtype="fp32",
            capacity=min(spec.capacity, _INVALIDATED_LIMIT),
            default=np.zeros(1, dtype=np.float32),
            holds="invalidated",
        )
        self.invalidated = opened(beside, place, kind, seed)
        self.pairs = opened(spec, place, kind, seed)
        self.level = rules.mean
        has_means = self.level in rules.order
        self.means = UserAggregates(spec, rules, place, kind, seed) if has_means else None
        self._fills = self.means.served if self.means else None
        self._secret = self.pairs.seed[16:]

    def keys(self, user: UserId, items: U64) -> U64:
        """Keys [n, 2] of the user's pairs."""
        keys: U64 = np.empty((len(items), 2), dtype=np.uint64)
        if isinstance(user, str):
            _core.pair_keys_of_string(self._secret, user, items, keys)
        else:
            keys[:, 0] = user
            keys[:, 1] = items
        return keys

    def read(
        self,
        user: UserId,
        items: U64,
        rules: ReadRules,
        default: F32,
        out: tuple[F32, I64, U8],
    ) -> int:
        """Fills rows, ages and sources of all `items`; returns the `Source` of the absent ones,
        DIRECT where there is none."""
        return _core.read_pairs(
            self.pairs,
            self.invalidated,
            self._fills,
            self.level,
            user,
            items,
            rules.now_ms,
            rules.max_age_ms,
            rules.fill_age_ms,
            rules.versions,
            default,
            *out,
        )

    def peek(self, user: UserId, items: U64, rules: ReadRules, ages: I64) -> int:
        """`read` of ages alone, which is a use of nothing."""
        return _core.peek_pairs(
            self.pairs,
            self.invalidated,
            self._fills,
            self.level,
            user,
            items,
            rules.now_ms,
            rules.max_age_ms,
            rules.fill_age_ms,
            rules.versions,
            ages,
        )

    def write(
        self, wanted: Sequence[UserItems], rows: F32, origins: U8, snapshot: int, now_ms: int
    ) -> int:
        """rows: float32 [sum of items, dim]; origins: uint8, one a row. Returns how many were
        written."""
        keys = np.concatenate([self.keys(each.user, each.item_hashes) for each in wanted])
        written = 0
        for origin in np.unique(origins).tolist():
            mine = origins == origin
            written += self.pairs.put_many(keys[mine], rows[mine], now_ms, snapshot, origin)
        return written

    def add_to_means(self, landing: Landing, alike: NDArray[np.uint32], ttl_ms: int) -> None:
        """What has landed, to the means of its users."""
        if self.means is None:
            return
        ages: I64 = np.empty(len(landing.users), dtype=np.int64)
        keys = np.array([self._own_key(user) for user in landing.users], dtype=np.uint64)
        self.invalidated.peek_many(keys, landing.now_ms, ttl_ms, ages)
        self.means.add(landing, ages, alike)

    def invalidate(self, users: Sequence[UserId], now_ms: int) -> None:
        """Notes the instant, and forgets the users' means. Where the instants of others have to
        make room before their time, everything goes."""
        keys = np.array([self._own_key(user) for user in users], dtype=np.uint64)
        nothing: F32 = np.zeros((len(users), 1), dtype=np.float32)
        before = self._lost_invalidations()
        noted = self.invalidated.put_many(keys, nothing, now_ms, 0, _core.ORIGIN_COMPUTED)
        if self.means is not None:
            self.means.forget(users)
        if noted < len(users) or self._lost_invalidations() > before:
            for name, table in self.tables().items():
                if name != "invalidated":
                    _clear(table)

    def tables(self) -> dict[str, _core.EmbeddingCache]:
        """All native tables, by what they hold."""
        means = self.means.tables() if self.means else {}
        return {"pairs": self.pairs, "invalidated": self.invalidated, **means}

    def _lost_invalidations(self) -> int:
        return self.invalidated.stats()["evictions_live"]

    def _own_key(self, user: UserId) -> tuple[int, int]:
        return self.invalidated.key_of_string(user) if isinstance(user, str) else (user, 0)


def _clear(table: _core.EmbeddingCache) -> None:
    """Removes all entries: about 0.1 s a million."""
    keys: U64 = np.empty((_SCANNED, 2), dtype=np.uint64)
    ages, unused = np.empty(_SCANNED, np.int64), np.empty(_SCANNED, np.uint32)
    origins = np.empty(_SCANNED, np.uint8)
    cursor, at_the_end = 0, False
    while not at_the_end:
        entries, cursor = table.scan(cursor, keys, ages, unused, origins)
        table.invalidate_many(keys[:entries])
        at_the_end = cursor == 0
