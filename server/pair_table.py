"""One pair model's embeddings: its native tables by id kind of the user, and the rules between
them.

Invariant: a row that is not the default is the pair's own (DIRECT), or made of what the order of
fills prefers among what is there for this user, or for this item and users like him.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from predawn.csrc import _core
from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.errors import ConfigError
from predawn.server.known_users import KnownUsers, Late
from predawn.server.pair_aggregates import FillRules, Landing, checked
from predawn.server.pair_stores import PairStores, ReadRules
from predawn.server.request import F32, I64, U8, U64, Source, UserId, UserItems
from predawn.server.stabilise import compress

_ADDED_UP = {"speculative_quota": max, "policy_sieve": max}  # not sums over id kinds


class FillsFromNeighbours(Protocol):
    """What similar users have for an item (`pair_neighbours.Neighbours`)."""

    def learn(self, vector: F32) -> None:
        """The vector of a user who has asked."""
        ...

    def add(self, user: UserId, vector: F32, items: U64, rows: F32, version: int) -> None:
        """Embeddings of a user's pairs have landed; `vector`: the newest of his that is known."""
        ...

    def fill(self, vector: F32, items: U64, rows: F32, missing: U8) -> U8:
        """Writes the rows [n, dim] of those `missing` [n] that there is something for; 1 where it
        did."""
        ...

    def replace_version(self, version: int, alike: Collection[int] = ()) -> None:
        """Which versions of the pair model serve from now on."""
        ...

    def replace_user_version(self, version: int) -> None:
        """Which version of their model the vectors of users are of from now on."""
        ...


@dataclass(frozen=True, slots=True)
class PairReading:
    """rows: float32 [n, dim]; ages_ms: int64 [n], of the pair's own embedding or of the user's
    mean that stands in, -1 for a neighbour's or the default; sources: uint8 [n], `Source`: DIRECT
    where the pair's own."""

    rows: F32
    ages_ms: I64
    sources: U8


class PairTable:
    """See the module. neighbours: for the level NEIGHBOUR of the rules, None: none."""

    def __init__(
        self,
        spec: TableSpec,
        seed: bytes,
        place: StorePlace,
        rules: FillRules,
        neighbours: FillsFromNeighbours | None = None,
    ) -> None:
        self.place = place
        self._spec = spec
        self._seed = seed
        self._rules = checked(spec, rules)
        # Where the absent come from for whom neighbours are asked rather.
        self._worse = frozenset[int]() if neighbours is None else rules.after(Source.NEIGHBOUR)
        self._neighbours = neighbours if self._worse else None
        self._known = KnownUsers()
        self._versions: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)
        self.replace_default(spec.default)
        self._stores: dict[int, PairStores] = {}
        for kind in (_core.INTEGER, _core.STRING):
            self._attach(kind)

    def replace_default(self, default: F32) -> None:
        """ConfigError when it has another length."""
        if default.shape != (self._spec.dim,):
            raise ConfigError(
                f"pairs.{self._spec.model}.default",
                f"has {default.size} values, the model has {self._spec.dim}",
            )
        self.default: F32 = default.astype(np.float32)
        self.default.flags.writeable = False

    def replace_version(self, version: int, alike: Collection[int]) -> None:
        """Which versions serve from now on."""
        self._versions = np.array(sorted({version, *alike}), dtype=np.uint32)
        if self._neighbours is not None:
            self._neighbours.replace_version(version, alike)

    def replace_user_version(self, version: int) -> None:
        """Vectors of users from before are not like those from now on."""
        if self._neighbours is not None:
            self._known.clear()
            self._neighbours.replace_user_version(version)

    def missing(self, users: Sequence[UserId]) -> set[int]:
        """Id kinds of `users` that have no tables yet."""
        return {_kind(user) for user in users} - self._stores.keys()

    def make(self, kind: int) -> None:
        """Makes the tables of an id kind, or attaches those that are there."""
        made = PairStores(self._spec, self._rules, self.place, kind, self._seed)
        self._stores[kind] = made

    def read(
        self, user: UserId, items: U64, now_ms: int, max_age_ms: int, vector: F32 | None
    ) -> PairReading:
        """`vector`: the user's, for neighbours; None: not known."""
        n = len(items)
        rows: F32 = np.empty((n, self._spec.dim), dtype=np.float32)
        ages: I64 = np.empty(n, dtype=np.int64)
        sources: U8 = np.empty(n, dtype=np.uint8)
        stores = self._stores.get(_kind(user))
        if stores is None:
            level = int(Source.DEFAULT)
            rows[:], ages[:], sources[:] = self.default, -1, level
        else:
            rules = self._read_rules(now_ms, max_age_ms)
            level = stores.read(user, items, rules, self.default, (rows, ages, sources))
        reading = PairReading(rows, ages, sources)
        if level in self._worse and vector is not None:
            self._fill(vector, items, level, reading)
        return reading

    def peek(self, user: UserId, items: U64, now_ms: int, max_age_ms: int) -> I64:
        """Ages of the pairs' own embeddings, -1 where absent. No use of them."""
        ages: I64 = np.full(len(items), -1, dtype=np.int64)
        stores = self._stores.get(_kind(user))
        if stores is not None:
            stores.peek(user, items, self._read_rules(now_ms, max_age_ms), ages)
        return ages

    def levels(self, user: UserId, items: U64, now_ms: int, vector: F32 | None) -> U8:
        """uint8 [n], the `Source` that each item would be served from if absent. No use."""
        stores = self._stores.get(_kind(user))
        level = int(Source.DEFAULT)
        if stores is not None:
            none, no_ages = items[:0], np.zeros(0, dtype=np.int64)
            level = stores.peek(user, none, self._read_rules(now_ms, 0), no_ages)
        levels: U8 = np.full(len(items), level, dtype=np.uint8)
        vector = self._known.vector(user) if vector is None else vector
        if level in self._worse and vector is not None:
            rows: F32 = np.empty((len(items), self._spec.dim), dtype=np.float32)
            unused: I64 = np.empty(len(items), dtype=np.int64)
            self._fill(vector, items, level, PairReading(rows, unused, levels))
        return levels

    def heard(self, user: UserId, vector: F32 | None, renewed_by: str) -> None:
        """The vector float32 [any] that a user who has asked was served, None: none; renewed_by:
        the user model that computes a newer one, "": none does."""
        if self._neighbours is None:
            return
        self._learn(self._known.heard(user, vector, renewed_by))
        if vector is not None:
            self._neighbours.learn(vector)

    def renewed(self, user_model: str, user: UserId, vector: F32) -> None:
        """The newer vector of a user: what has landed for him meanwhile is known by it."""
        self._learn(self._known.renewed(user_model, user, vector))

    def land(
        self, wanted: Sequence[UserItems], raw: F32, snapshot: int, now_ms: int, origins: U8
    ) -> int:
        """Pairs and means; returns how many pairs were written."""
        rows = compress(raw, self._spec.dtype)  # beyond what it holds: cut, not infinite
        ends = np.cumsum([len(each.item_hashes) for each in wanted])
        parts, parts_of_origins = np.split(rows, ends[:-1]), np.split(origins, ends[:-1])
        serves = not len(self._versions) or snapshot in self._versions
        written = 0
        for kind in {_kind(each.user) for each in wanted}:
            mine = [i for i, each in enumerate(wanted) if _kind(each.user) == kind]
            of_kind, of_rows = [wanted[i] for i in mine], np.concatenate([parts[i] for i in mine])
            of_origins = np.concatenate([parts_of_origins[i] for i in mine])
            stores = self._stores[kind]
            written += stores.write(of_kind, of_rows, of_origins, snapshot, now_ms)
            if serves:
                self._aggregate(stores, of_kind, of_rows, snapshot, now_ms)
        return written

    def invalidate(self, users: Sequence[UserId], now_ms: int) -> None:
        """Forgets all of `users`, each once; not what neighbours were made of: it names nobody."""
        for user in users:
            self._known.forget(user)
        for kind in {_kind(user) for user in users}:
            stores = self._stores.get(kind) or self._attach(kind)
            if stores is not None:  # else nobody has written such a pair
                stores.invalidate([user for user in users if _kind(user) == kind], now_ms)

    def close(self) -> None:
        """Leaves the tables."""
        for stores in self._stores.values():
            for table in stores.tables().values():
                table.close()

    def stats(self) -> dict[str, int]:
        """The native counters of the pairs over all id kinds; `fill_entries`, `fill_bytes`: of
        what is kept by user."""
        total: dict[str, int] = {}
        for stores in self._stores.values():
            for field, value in stores.pairs.stats().items():
                total[field] = _ADDED_UP.get(field, _sum)(total.get(field, 0), value)
            for table in stores.means.tables().values() if stores.means else ():
                for field in ("entries", "bytes"):
                    name = f"fill_{field}"
                    total[name] = total.get(name, 0) + table.stats()[field]
        return total

    def check(self) -> list[str]:
        """The violated invariants of all tables."""
        return [
            f"{self._spec.model}, {name}, id kind {kind}: {sentence}"
            for kind, stores in self._stores.items()
            for name, native in stores.tables().items()
            for sentence in native.check()
        ]

    def _read_rules(self, now_ms: int, max_age_ms: int) -> ReadRules:
        return ReadRules(now_ms, max_age_ms, self._rules.ttl_ms, self._versions)

    def _fill(self, vector: F32, items: U64, level: int, reading: PairReading) -> None:
        """Those of `reading` that come from `level`, where neighbours have something."""
        assert self._neighbours is not None
        missing: U8 = (reading.sources == level).view(np.uint8)
        filled = self._neighbours.fill(vector, items, reading.rows, missing).view(np.bool_)
        reading.sources[filled] = Source.NEIGHBOUR
        reading.ages_ms[filled] = -1

    def _aggregate(
        self,
        stores: PairStores,
        wanted: Sequence[UserItems],
        rows: F32,
        snapshot: int,
        now_ms: int,
    ) -> None:
        """To the means of the users, and to what their neighbours are served."""
        some = [each for each in wanted if len(each.item_hashes)]
        if not some:
            return
        counts = [len(each.item_hashes) for each in some]
        landing = Landing([each.user for each in some], rows, counts, now_ms, snapshot)
        stores.add_to_means(landing, self._versions, self._rules.ttl_ms)
        if self._neighbours is not None:
            end = 0
            for each, count in zip(some, counts, strict=True):
                begin, end = end, end + count
                items = np.ascontiguousarray(each.item_hashes)
                late = Late(each.user, items, rows[begin:end].copy(), snapshot)
                self._learn(self._known.landed(late))

    def _learn(self, landed: Sequence[Late]) -> None:
        """What neighbours are to be served, of users as they are known now."""
        for each in landed:
            vector = self._known.vector(each.user)
            if vector is not None and self._neighbours is not None:
                self._neighbours.add(each.user, vector, each.items, each.rows, each.version)

    def _attach(self, kind: int) -> PairStores | None:
        """The tables of an id kind if they are files that are there already."""
        path = self.place.file(self._spec, kind)
        if path is None or not path.exists():
            return None
        self.make(kind)
        return self._stores[kind]


def _sum(a: int, b: int) -> int:
    return a + b


def _kind(user: UserId) -> int:
    return _core.STRING if isinstance(user, str) else _core.INTEGER
