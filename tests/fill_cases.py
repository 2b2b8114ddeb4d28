"""What tests of the pair store share: a clock that stands, a model of three values, neighbours."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.pair_cache import FillRules, FillsFromNeighbours, PairCache
from predawn.server.request import F32, U8, U64, UserId, UserItems

SEED = bytes(range(32))
DEFAULT = np.array([-1, -2, -3], dtype=np.float32)
SPEC = TableSpec("fm", 3, 1, "fp32", 4096, DEFAULT, holds="pairs")
HOUR_MS = 3_600_000


@dataclass
class SetClock:
    """A clock that stands where it is put."""

    now_ms: int = 1_700_000_000_000

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ns(self) -> int:
        return self.now_ms * 1_000_000


@dataclass
class EvenItems:
    """Neighbours that know even items: the first value of the vector, the item, 100."""

    learnt: list[float] = field(default_factory=list[float])
    versions: list[tuple[int, set[int]]] = field(default_factory=list[tuple[int, set[int]]])
    user_versions: list[int] = field(default_factory=list[int])
    added: list[tuple[UserId, float, list[int], list[list[float]], int]] = field(
        default_factory=list[tuple[UserId, float, list[int], list[list[float]], int]]
    )

    def learn(self, vector: F32) -> None:
        self.learnt.append(float(vector[0]))

    def add(self, user: UserId, vector: F32, items: U64, rows: F32, version: int) -> None:
        self.added.append((user, float(vector[0]), items.tolist(), rows.tolist(), version))

    def fill(self, vector: F32, items: U64, rows: F32, missing: U8) -> U8:
        known = ((items % np.uint64(2)) == 0) & (missing != 0)
        for i in np.flatnonzero(known):
            rows[i] = vector[0], items[i], 100
        return known.astype(np.uint8)

    def replace_version(self, version: int, alike: Collection[int] = ()) -> None:
        self.versions.append((version, set(alike)))

    def replace_user_version(self, version: int) -> None:
        self.user_versions.append(version)


def items_of(numbers: Sequence[int]) -> U64:
    return np.array(numbers, dtype=np.uint64)


def vector_of(value: float) -> F32:
    return np.array([value, 0], dtype=np.float32)


def counting(first: int, n: int) -> F32:
    """Rows that differ."""
    return np.arange(first, first + 3 * n, dtype=np.float32).reshape(n, 3)


def filled(
    clock: SetClock,
    rules: FillRules,
    neighbours: FillsFromNeighbours | None = None,
    spec: TableSpec = SPEC,
    place: StorePlace | None = None,
) -> PairCache:
    """A cache of the model "fm" that fills absent pairs by `rules`."""
    beside = {} if neighbours is None else {"fm": neighbours}
    return PairCache([spec], clock, SEED, place or StorePlace(), {"fm": rules}, beside)


def land(
    cache: PairCache,
    wanted: Sequence[tuple[UserId, Sequence[int]]],
    rows: F32,
    version: int = 1,
    origin: U8 | int = 0,
) -> int:
    """Makes the tables and lands the rows; returns how many were written."""
    assert asyncio.run(cache.ready("fm", [user for user, _ in wanted]))
    pairs = [UserItems(user, items_of(items)) for user, items in wanted]
    return cache.land("fm", pairs, rows, version, origin)
