"""The store of pair embeddings as the server sees it: native tables per pair model and id kind of
the user, keyed by user and item, and beside them what stands in for a pair that is absent.

Invariant: a row that `read` gives as DIRECT was landed for this user and this item, at most
`max_age_ms` ago, after the user's last invalidation and by the version of the model that serves, or
one alike. A mean of the user's was made of such rows of his, of any age up to the rules' `ttl_ms`.
Integer users are keyed by (user, item) itself, string users by SipHash-128 of both under the
table's secret. An item is its 64-bit hash as models see it. A batch of the engine is one grouped
write, made when it lands: nothing waits between landed and readable. Used on the event loop's
thread only.

A keyed hash does not say whose pair it is, so an invalidation cannot look for a user's pairs. It
writes the instant into a small table by user beside them, and a read takes nothing written before:
one more key a request, seen at once by all servers that share the store, kept over a restart.
What is kept by user is removed as well. Should more users be invalidated within the longer of ttl
and fill ttl than that table keeps, all pairs of the model go.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from predawn.csrc import _core
from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.clock import Clock
from predawn.server.errors import ConfigError, UnknownName
from predawn.server.pair_aggregates import FillRules
from predawn.server.pair_table import FillsFromNeighbours, PairReading, PairTable
from predawn.server.request import F32, I64, U8, U64, UserId, UserItems

__all__ = ["FillRules", "FillsFromNeighbours", "PairCache", "PairReading"]

_LOG = logging.getLogger(__name__)
_LOG_EVERY_NS = 10_000_000_000  # a table that cannot be made is said once in so much time

InvalidationWatcher = Callable[[str, Sequence[UserId]], None]


class PairCache:
    """specs: of the pair models, their `default` served where nothing is known; seed: 32 bytes,
    random when None; place: where the tables lie; fills: by model, what stands in for an absent
    pair, none by default; neighbours: by model, for NEIGHBOUR among them. Tables that are there
    already are attached (ConfigError when they do not fit): a restart is warm. Until
    `replace_version` says which, pairs of any version are served."""

    def __init__(
        self,
        specs: Sequence[TableSpec],
        clock: Clock,
        seed: bytes | None = None,
        place: StorePlace = StorePlace(),  # noqa: B008 - frozen
        fills: Mapping[str, FillRules] | None = None,
        neighbours: Mapping[str, FillsFromNeighbours] | None = None,
    ) -> None:
        seed = secrets.token_bytes(32) if seed is None else seed
        fills, neighbours = fills or {}, neighbours or {}
        self._tables = {
            name: PairTable(spec, seed, place, fills.get(name, FillRules()), neighbours.get(name))
            for name, spec in {spec.model: spec for spec in specs}.items()
        }
        self._clock = clock
        self._latest_ms = 0  # of what was written: the clock may have gone back since
        self._user_versions: dict[str, int] = {}
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

    def replace_user_version(self, user_model: str, version: int) -> None:
        """From now on the embeddings of `user_model` are of `version`, in a space of their own:
        neighbours who were known by others are not any more."""
        self._user_versions[user_model] = version
        for table in self._tables.values():
            table.replace_user_version(version)

    def knows_by(self, user_model: str, version: int) -> bool:
        """Whether users are known by embeddings of that version of `user_model`."""
        return self._user_versions.get(user_model, version) == version

    def read(
        self, model: str, user: UserId, items: U64, max_age_ms: int, vector: F32 | None = None
    ) -> PairReading:
        """The embeddings of `user` with `items` [n] that are at most `max_age_ms` old and of the
        version that serves, for the others what the order of fills says. Age counts from landing;
        reading does not renew it. vector: the user's embedding of another model, which says who is
        like him; None: not known, and neighbours fill nothing."""
        now_ms = self._clock.wall_ms()
        return self._tables[model].read(user, items, now_ms, max_age_ms, vector)

    def peek(self, model: str, user: UserId, items: U64, max_age_ms: int) -> I64:
        """int64 [n], the ages of what `read` would give as DIRECT, -1 for the others. A look, not a
        use: eviction, its steering and the counts of hits do not know of it."""
        return self._tables[model].peek(user, items, self._clock.wall_ms(), max_age_ms)

    def levels(self, model: str, user: UserId, items: U64, vector: F32 | None = None) -> U8:
        """uint8 [n], the `Source` that each item would be served from now if it is absent; vector:
        as of `read`, None: that of his last request. A look, not a use."""
        return self._tables[model].levels(user, items, self._clock.wall_ms(), vector)

    def heard(self, model: str, user: UserId, vector: F32 | None, renewed_by: str = "") -> None:
        """`user` has asked and was served this vector (None: none is known): neighbours are known
        by it. renewed_by: the user model that is computing a newer one behind the request; what
        lands for him until then waits for it (`renewed`)."""
        self._tables[model].heard(user, vector, renewed_by)

    def renewed(
        self, user_model: str, users: Sequence[UserId], vectors: F32, snapshot: int
    ) -> None:
        """`UserCache.on_land`: newer vectors [n, dim] of `users`."""
        if self.knows_by(user_model, snapshot):
            for table in self._tables.values():
                for user, vector in zip(users, vectors, strict=True):
                    table.renewed(user_model, user, vector)

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

    def land(
        self,
        model: str,
        wanted: Sequence[UserItems],
        raw: F32,
        snapshot: int,
        origin: U8 | int = _core.ORIGIN_COMPUTED,
    ) -> int:
        """Rounds the new embeddings [sum of items, dim], user by user in the order of `wanted`,
        each user once, writes them and adds them to what fills are made of; returns how many were
        written (the store may give up on a few). origin: uint8 [sum of items], or one for all:
        ORIGIN_SPECULATIVE ones have to live in the store's quota for them until a request reads
        them. `ready` first."""
        origins: U8 = np.broadcast_to(np.asarray(origin, dtype=np.uint8), len(raw))
        now_ms = self._clock.wall_ms()
        self._latest_ms = max(self._latest_ms, now_ms)
        return self._tables[model].land(wanted, raw, snapshot, now_ms, origins)

    def on_invalidate(self, watcher: InvalidationWatcher) -> None:
        """`watcher(model, users)` is called at every invalidation, so that a computation under way
        cannot bring the old state back."""
        self._watchers.append(watcher)

    def invalidate(self, users: Sequence[UserId], models: Sequence[str] | None) -> None:
        """Forgets all pairs of `users` in `models` (None: all) and tells the watchers. UnknownName
        before anything is changed. Where the clock has gone back, what is written until it has made
        up for that is taken for older, too."""
        for at, name in enumerate(models or ()):
            if name not in self._tables:
                raise UnknownName(f"models[{at}]", name, self._tables)
        self._latest_ms = max(self._latest_ms, self._clock.wall_ms())
        for name in dict.fromkeys(self._tables if models is None else models):
            self._tables[name].invalidate(list(dict.fromkeys(users)), self._latest_ms)
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
