"""The store of pair embeddings as the server sees it: a native table per pair model and id kind of
the user, keyed by user and item.

Invariant: a row that `read` gives was landed for this user and this item, at most `max_age_ms` ago,
after the user's last invalidation and by the version of the model that serves, or one alike.
Integer users are keyed by (user, item) itself, string users by SipHash-128 of both under the
table's secret. An item is its 64-bit hash as models see it. A batch of the engine is one grouped
write, made when it lands: nothing waits between landed and readable. Used on the event loop's
thread only.

A keyed hash does not say whose pair it is, so an invalidation cannot look for a user's pairs. It
writes the instant into a small table by user beside them, and a read takes nothing written before:
one more key a request, seen at once by all servers that share the store, kept over a restart.
Should more users be invalidated within a ttl than that table keeps, all pairs of the model go.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from predawn.csrc import _core
from predawn.server.cache_place import StorePlace, TableSpec, opened
from predawn.server.clock import Clock
from predawn.server.errors import ConfigError, UnknownName
from predawn.server.request import F32, I64, U64, UserId, UserItems
from predawn.server.stabilise import compress

__all__ = ["PairCache", "PairReading"]

_LOG = logging.getLogger(__name__)
_LOG_EVERY_NS = 10_000_000_000  # a table that cannot be made is said once in so much time
_INVALIDATED_LIMIT = 65_536  # users; 10 MB
_SCANNED = 4_096  # entries of one step when all pairs go

InvalidationWatcher = Callable[[str, Sequence[UserId]], None]


@dataclass(frozen=True, slots=True)
class PairReading:
    """rows: float32 [n, dim], the default where absent; ages_ms: int64 [n], -1 where absent."""

    rows: F32
    ages_ms: I64


class PairCache:
    """specs: of the pair models, their `default` served where nothing is known; seed: 32 bytes,
    random when None; place: where the tables lie. Tables that are there already are attached
    (ConfigError when they do not fit): a restart is warm. Until `replace_version` says which,
    pairs of any version are served."""

    def __init__(
        self,
        specs: Sequence[TableSpec],
        clock: Clock,
        seed: bytes | None = None,
        place: StorePlace = StorePlace(),  # noqa: B008 - frozen
    ) -> None:
        seed = secrets.token_bytes(32) if seed is None else seed
        self._tables = {spec.model: _PairTable(spec, seed, place) for spec in specs}
        self._clock = clock
        self._watchers: list[InvalidationWatcher] = []
        self._making = asyncio.Lock()
        self._logged_ns = -_LOG_EVERY_NS

    def models(self) -> tuple[str, ...]:
        """Names of the pair models, in the order given."""
        return tuple(self._tables)

    def default(self, model: str) -> F32:
        """float32 [dim], read-only: what an absent pair is served."""
        return self._tables[model].default

    def replace_default(self, model: str, default: F32) -> None:
        """From now on absent pairs are served `default`, float32 [dim]; ConfigError when it has
        another length."""
        self._tables[model].replace_default(default)

    def replace_version(self, model: str, version: int, alike: Collection[int] = ()) -> None:
        """From now on pairs of `version`, and of those `alike`, are served. Those of others stay
        until they are overwritten or too old: going back finds them."""
        self._tables[model].replace_version(version, alike)

    def read(self, model: str, user: UserId, items: U64, max_age_ms: int) -> PairReading:
        """The embeddings of `user` with `items` [n] that are at most `max_age_ms` old and of the
        version that serves, the default for the others. Age counts from landing; reading does not
        renew it."""
        return self._tables[model].read(user, items, self._clock.wall_ms(), max_age_ms)

    async def ready(self, model: str, users: Sequence[UserId]) -> bool:
        """Makes the tables that `land` will need for `users`, in a thread where that takes long.
        False, said in the log, when one cannot be made: what is computed could not be kept."""
        table = self._tables[model]
        async with self._making:
            for kind in table.missing(users):
                try:
                    if table.place.is_quick:
                        table.make(kind)
                    else:
                        await asyncio.to_thread(table.make, kind)
                except (ConfigError, OSError, MemoryError, RuntimeError) as error:
                    self._cannot_keep(model, error)
                    return False
        return True

    def land(self, model: str, wanted: Sequence[UserItems], raw: F32, snapshot: int) -> int:
        """Rounds the new embeddings [sum of items, dim], user by user in the order of `wanted`,
        and writes them; returns how many were written (the store may give up on a few). `ready`
        first."""
        return self._tables[model].land(wanted, raw, snapshot, self._clock.wall_ms())

    def on_invalidate(self, watcher: InvalidationWatcher) -> None:
        """`watcher(model, users)` is called at every invalidation, so that a computation under way
        cannot bring the old state back."""
        self._watchers.append(watcher)

    def invalidate(self, users: Sequence[UserId], models: Sequence[str] | None) -> None:
        """Forgets all pairs of `users` in `models` (None: all) and tells the watchers. UnknownName
        before anything is changed."""
        for at, name in enumerate(models or ()):
            if name not in self._tables:
                raise UnknownName(f"models[{at}]", name, self._tables)
        for name in dict.fromkeys(self._tables if models is None else models):
            self._tables[name].invalidate(list(dict.fromkeys(users)), self._clock.wall_ms())
            for watcher in self._watchers:
                watcher(name, users)

    def close(self) -> None:
        """Leaves the tables; files are marked as cleanly closed."""
        for table in self._tables.values():
            table.close()

    def stats(self) -> dict[str, dict[str, int]]:
        """Per model: the native counters of its pairs, summed over id kinds."""
        return {name: table.stats() for name, table in self._tables.items()}

    def check(self) -> list[str]:
        """The violated invariants of all tables (empty: sound)."""
        return [sentence for table in self._tables.values() for sentence in table.check()]

    def _cannot_keep(self, model: str, error: Exception) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._logged_ns >= _LOG_EVERY_NS:
            self._logged_ns = now_ns
            _LOG.error("store: pairs of model %s cannot be kept: %s", model, error)


class _Stores:
    """The two native tables of one pair model and id kind."""

    def __init__(self, pairs: _core.EmbeddingCache, invalidated: _core.EmbeddingCache) -> None:
        self.pairs = pairs
        self.invalidated = invalidated
        self._secret = pairs.seed[16:]
        self._keys: U64 = np.empty((0, 2), dtype=np.uint64)
        self._user_key: U64 = np.zeros((1, 2), dtype=np.uint64)
        self._nothing: F32 = np.zeros((1, 1), dtype=np.float32)
        self._age: I64 = np.zeros(1, dtype=np.int64)

    def keys(self, user: UserId, items: U64) -> U64:
        """Keys [n, 2] of the user's pairs, in a buffer that the next call overwrites."""
        n = len(items)
        if n > len(self._keys):
            self._keys = np.empty((2 * n, 2), dtype=np.uint64)
        keys = self._keys[:n]
        if isinstance(user, str):
            _core.pair_keys_of_string(self._secret, user, items, keys)
        else:
            keys[:, 0] = user
            keys[:, 1] = items
        return keys

    def age_limit_ms(self, user: UserId, now_ms: int, max_age_ms: int) -> int:
        """The oldest a pair of this user may be, -1: none will do. What was written in the very
        millisecond of an invalidation is taken for older."""
        self._name(user)
        found = self.invalidated.get_many(
            self._user_key, now_ms, max_age_ms, self._nothing, self._age
        )
        return int(self._age[0]) - 1 if found else max_age_ms

    def invalidate(self, user: UserId, now_ms: int) -> bool:
        """Notes the instant; False when there was no room."""
        self._name(user)
        noted = self.invalidated.put_many(
            self._user_key, self._nothing, now_ms, 0, _core.ORIGIN_COMPUTED
        )
        return noted == 1

    def lost_invalidations(self) -> int:
        """Instants that had to make room for others before their time."""
        return self.invalidated.stats()["evictions_live"]

    def clear(self) -> None:
        """Removes all pairs: about 0.1 s a million."""
        keys: U64 = np.empty((_SCANNED, 2), dtype=np.uint64)
        ages, unused = np.empty(_SCANNED, np.int64), np.empty(_SCANNED, np.uint32)
        origins = np.empty(_SCANNED, np.uint8)
        cursor, at_the_end = 0, False
        while not at_the_end:
            entries, cursor = self.pairs.scan(cursor, keys, ages, unused, origins)
            self.pairs.invalidate_many(keys[:entries])
            at_the_end = cursor == 0

    def _name(self, user: UserId) -> None:
        """Puts the user's own key into the buffer."""
        if isinstance(user, str):
            self._user_key[0] = self.invalidated.key_of_string(user)
        else:
            self._user_key[0] = user, 0


class _PairTable:
    """One pair model's tables by id kind of the user, and the rules between them."""

    def __init__(self, spec: TableSpec, seed: bytes, place: StorePlace) -> None:
        self.place = place
        self._version: int | None = None
        self._spec = spec
        self._seed = seed
        self.replace_default(spec.default)
        self._stores: dict[int, _Stores] = {}
        for kind in (_core.INTEGER, _core.STRING):
            self._attach(kind)

    def replace_default(self, default: F32) -> None:
        if default.shape != (self._spec.dim,):
            raise ConfigError(
                f"pairs.{self._spec.model}.default",
                f"has {default.size} values, the model has {self._spec.dim}",
            )
        self.default: F32 = default.astype(np.float32)
        self.default.flags.writeable = False

    def replace_version(self, version: int, alike: Collection[int]) -> None:
        self._version = version
        self._alike = np.array(sorted({version, *alike}), dtype=np.uint32)

    def missing(self, users: Sequence[UserId]) -> set[int]:
        """Id kinds of `users` that have no tables yet."""
        return {_kind(user) for user in users} - self._stores.keys()

    def make(self, kind: int) -> None:
        """Makes the tables of an id kind, or attaches those that are there. The invalidations
        first: pairs without them would be pairs that nobody can take back."""
        spec = self._spec
        beside = TableSpec(
            spec.model,
            dim=1,
            average_over=1,
            dtype="fp32",
            capacity=min(spec.capacity, _INVALIDATED_LIMIT),
            default=np.zeros(1, dtype=np.float32),
            holds="invalidated",
        )
        invalidated = opened(beside, self.place, kind, self._seed)
        self._stores[kind] = _Stores(opened(spec, self.place, kind, self._seed), invalidated)

    def read(self, user: UserId, items: U64, now_ms: int, max_age_ms: int) -> PairReading:
        rows: F32 = np.empty((len(items), self._spec.dim), dtype=np.float32)
        rows[:] = self.default
        stores = self._stores.get(_kind(user))
        limit_ms = -1 if stores is None else stores.age_limit_ms(user, now_ms, max_age_ms)
        if stores is None or limit_ms < 0:
            return PairReading(rows, np.full(len(items), -1, dtype=np.int64))
        ages: I64 = np.empty(len(items), dtype=np.int64)
        snapshots = np.empty(len(items), dtype=np.uint32)
        stores.pairs.get_many(stores.keys(user, items), now_ms, limit_ms, rows, ages, snapshots)
        if self._version is not None:
            others = (snapshots != self._version) & (ages >= 0)
            if others.any():
                others &= ~np.isin(snapshots, self._alike)
                rows[others] = self.default
                ages[others] = -1
        return PairReading(rows, ages)

    def land(self, wanted: Sequence[UserItems], raw: F32, snapshot: int, now_ms: int) -> int:
        rows = compress(raw, self._spec.dtype)  # beyond what it holds: cut, not infinite
        ends = np.cumsum([len(each.item_hashes) for each in wanted])
        parts = np.split(rows, ends[:-1])
        written = 0
        for kind in {_kind(each.user) for each in wanted}:
            stores = self._stores[kind]
            mine = [i for i, each in enumerate(wanted) if _kind(each.user) == kind]
            keys = [stores.keys(wanted[i].user, wanted[i].item_hashes).copy() for i in mine]
            written += stores.pairs.put_many(
                np.concatenate(keys),
                np.concatenate([parts[i] for i in mine]),
                now_ms,
                snapshot,
                _core.ORIGIN_COMPUTED,
            )
        return written

    def invalidate(self, users: Sequence[UserId], now_ms: int) -> None:
        for kind in {_kind(user) for user in users}:
            stores = self._stores.get(kind) or self._attach(kind)
            if stores is None:  # nobody has written such a pair
                continue
            before = stores.lost_invalidations()
            noted = [stores.invalidate(user, now_ms) for user in users if _kind(user) == kind]
            if not all(noted) or stores.lost_invalidations() > before:
                stores.clear()

    def close(self) -> None:
        for stores in self._stores.values():
            stores.pairs.close()
            stores.invalidated.close()

    def stats(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for stores in self._stores.values():
            for field, value in stores.pairs.stats().items():
                total[field] = total.get(field, 0) + value
        return total

    def check(self) -> list[str]:
        return [
            f"{self._spec.model}, {table}, id kind {kind}: {sentence}"
            for kind, stores in self._stores.items()
            for table, native in (("pairs", stores.pairs), ("invalidated", stores.invalidated))
            for sentence in native.check()
        ]

    def _attach(self, kind: int) -> _Stores | None:
        """The tables of an id kind if they are files that are there already."""
        path = self.place.file(self._spec, kind)
        if path is None or not path.exists():
            return None
        self.make(kind)
        return self._stores[kind]


def _kind(user: UserId) -> int:
    return _core.STRING if isinstance(user, str) else _core.INTEGER
