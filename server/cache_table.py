"""One user model's embeddings: a native table per id kind, and the rows that wait for their write.

Invariant: a key is looked for in the pending rows first, which are always newer than the table, so
a row is readable from the moment it has landed. Integer and string ids live in different native
tables and different dictionary keys: they can never meet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.csrc import _core
from predawn.server.cache_place import StorePlace, TableSpec, attached, opened
from predawn.server.errors import ConfigError
from predawn.server.request import F32, I64, U64, UserId
from predawn.server.stabilise import average, average_exponentially


@dataclass(slots=True)
class Reading:
    """rows: float32 [n, dim], the default where absent; ages_ms: int64 [n], -1 where absent;
    snapshots: uint32 [n], 0 where absent."""

    rows: F32
    ages_ms: I64
    snapshots: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class _Landed:
    row: F32  # [parts * dim]
    written_at_ms: int
    snapshot: int


class ModelTable:
    """See the module. `seed`: the 32 bytes that all tables of a store in memory share; a file has
    its own."""

    def __init__(self, spec: TableSpec, seed: bytes, place: StorePlace) -> None:
        self.spec = spec
        self.replace_default(spec.default)
        self._seed = seed
        self._place = place
        self._native: dict[int, _core.EmbeddingCache] = attached(spec, place)
        self._pending: dict[UserId, _Landed] = {}
        self._one_key: U64 = np.zeros((1, 2), dtype=np.uint64)

    def replace_default(self, default: F32) -> None:
        """`default` float32 [dim] is what absent users are served from now on. ConfigError."""
        if default.shape != (self.spec.dim,):
            raise ConfigError(
                f"models.{self.spec.model}.default",
                f"has {default.size} values, the model has {self.spec.dim}",
            )
        self.default: F32 = default.astype(np.float32)
        self.default.flags.writeable = False
        self._default_row = self.default.reshape(1, self.spec.dim)

    @property
    def pending(self) -> int:
        """Rows landed and not yet written."""
        return len(self._pending)

    def read_one(self, user: UserId, now_ms: int, max_age_ms: int) -> Reading:
        """`read` for a single user: the request path (about 5 us)."""
        rows = self._default_row.copy()
        ages: I64 = np.full(1, -1, dtype=np.int64)
        snapshots: NDArray[np.uint32] = np.zeros(1, dtype=np.uint32)
        landed = self._pending.get(user)
        if landed is not None:
            _overlay(rows, ages, snapshots, 0, landed, now_ms, max_age_ms)
            return Reading(rows, ages, snapshots)
        native = self._native.get(_core.STRING if isinstance(user, str) else _core.INTEGER)
        if native is not None:
            key = self._one_key
            key[0] = native.key_of_string(user) if isinstance(user, str) else (user, 0)
            native.get_many(key, now_ms, max_age_ms, rows, ages, snapshots)
        return Reading(rows, ages, snapshots)

    def read(self, users: Sequence[UserId], now_ms: int, max_age_ms: int) -> Reading:
        """What is served to `users`: entries of at most `max_age_ms`, else the default."""
        return self._gather(users, now_ms, max_age_ms, np.tile(self.default, (len(users), 1)))

    def land(self, users: Sequence[UserId], raw: F32, snapshot: int, now_ms: int) -> F32:
        """Takes new raw vectors [n, dim] in; returns what is served from now on [n, dim]."""
        rows = self._averaged(users, raw, now_ms)
        for user, row in zip(users, rows, strict=True):
            self._pending[user] = _Landed(row, now_ms, snapshot)
        return rows[:, : self.spec.dim]

    def _averaged(self, users: Sequence[UserId], raw: F32, now_ms: int) -> F32:
        """Whole rows [n, parts * dim] as the store will give them back."""
        spec, n = self.spec, len(users)
        if spec.average_weight is not None:
            served = np.full((n, spec.dim), np.nan, dtype=np.float32)
            self._gather(users, now_ms, spec.failover_ttl_ms, served)
            return average_exponentially(raw, served, spec.average_weight, spec.dtype)
        parts = spec.average_over
        before = np.full((n, parts * spec.dim if parts > 1 else 0), np.nan, dtype=np.float32)
        if parts > 1:
            self._gather(users, now_ms, spec.failover_ttl_ms, before)
        return average(raw, before[:, spec.dim :], spec.dtype)

    def flush(self) -> int:
        """Writes what has landed, one call per (id kind, instant, snapshot); returns the rows. Rows
        of a kind whose table is still to be made (`missing`) stay pending."""
        missing = self.missing()
        groups: dict[tuple[int, int, int], list[UserId]] = {}
        for user, landed in self._pending.items():
            group = (_kind(user), landed.written_at_ms, landed.snapshot)
            if group[0] not in missing:
                groups.setdefault(group, []).append(user)
        for (kind, written_at_ms, snapshot), users in groups.items():
            native = self._native.get(kind) or self.make(kind)
            rows = np.stack([self._pending[user].row for user in users])
            keys = _keys(native, users)
            native.put_many(keys, rows, written_at_ms, snapshot, _core.ORIGIN_COMPUTED)
        written = [user for users in groups.values() for user in users]
        for user in written:
            del self._pending[user]
        return len(written)

    def missing(self) -> set[int]:
        """Id kinds with pending rows whose table takes long to be made: not on the loop."""
        if self._place.is_quick:
            return set()
        return {_kind(user) for user in self._pending} - self._native.keys()

    def make(self, kind: int) -> _core.EmbeddingCache:
        """Makes the table of an id kind, or attaches the one there is. From any thread, one at a
        time."""
        native = self._native[kind] = opened(self.spec, self._place, kind, self._seed)
        return native

    def drop_pending(self, kind: int) -> int:
        """Forgets the landed rows of an id kind; returns how many."""
        dropped = [user for user in self._pending if _kind(user) == kind]
        for user in dropped:
            del self._pending[user]
        return len(dropped)

    def invalidate(self, users: Sequence[UserId]) -> int:
        """Removes; returns how many users had an entry, written or landed."""
        landed = [user for user in users if self._pending.pop(user, None) is not None]
        forgotten = set(landed)
        self._remove(landed)
        return len(landed) + self._remove([user for user in users if user not in forgotten])

    def stats(self) -> dict[str, int]:
        """The native counters, summed over id kinds, and `pending`."""
        total: dict[str, int] = {"pending": len(self._pending)}
        for native in self._native.values():
            for field, value in native.stats().items():
                total[field] = total.get(field, 0) + value
        return total

    def close(self) -> None:
        """Leaves the native tables; nothing can be read or written afterwards."""
        for native in self._native.values():
            native.close()

    def check(self) -> list[str]:
        """The violated invariants of the native tables."""
        return [
            f"{self.spec.model}, id kind {kind}: {sentence}"
            for kind, native in self._native.items()
            for sentence in native.check()
        ]

    def _gather(self, users: Sequence[UserId], now_ms: int, max_age_ms: int, rows: F32) -> Reading:
        """Reads into `rows` [n, dim] or [n, parts * dim]; absent ones stay untouched."""
        ages: I64 = np.full(len(users), -1, dtype=np.int64)
        snapshots: NDArray[np.uint32] = np.zeros(len(users), dtype=np.uint32)
        for native, at in self._by_kind(users):
            out, out_ages, out_snapshots = rows[at], ages[at], snapshots[at]
            keys = _keys(native, [users[i] for i in at])
            native.get_many(keys, now_ms, max_age_ms, out, out_ages, out_snapshots)
            rows[at], ages[at], snapshots[at] = out, out_ages, out_snapshots
        for i, user in enumerate(users):
            landed = self._pending.get(user)
            if landed is not None:
                _overlay(rows, ages, snapshots, i, landed, now_ms, max_age_ms)
        return Reading(rows, ages, snapshots)

    def _by_kind(self, users: Sequence[UserId]) -> Iterator[tuple[_core.EmbeddingCache, list[int]]]:
        """The native tables there are, with the positions of their users that are not pending."""
        for kind, native in self._native.items():
            at = [i for i, u in enumerate(users) if _kind(u) == kind and u not in self._pending]
            if at:
                yield native, at

    def _remove(self, users: Sequence[UserId]) -> int:
        removed = 0
        for native, at in self._by_kind(users):
            removed += native.invalidate_many(_keys(native, [users[i] for i in at]))
        return removed


def _kind(user: UserId) -> int:
    return _core.STRING if isinstance(user, str) else _core.INTEGER


def _keys(native: _core.EmbeddingCache, users: Sequence[UserId]) -> U64:
    """Keys [n, 2] of users of one id kind."""
    keys: U64 = np.zeros((len(users), 2), dtype=np.uint64)
    for i, user in enumerate(users):
        keys[i] = native.key_of_string(user) if isinstance(user, str) else (user, 0)
    return keys


def _overlay(
    rows: F32,
    ages_ms: I64,
    snapshots: NDArray[np.uint32],
    at: int,
    landed: _Landed,
    now_ms: int,
    max_age_ms: int,
) -> None:
    """A pending row as the store would have read it: too old counts as absent."""
    age_ms = max(0, now_ms - landed.written_at_ms)
    if age_ms <= max_age_ms:
        rows[at] = landed.row[: rows.shape[1]]
        ages_ms[at] = age_ms
        snapshots[at] = landed.snapshot
