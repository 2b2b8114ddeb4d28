"""Calls of the native store, as short as tests want them: integer ids in, columns out."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from store_twin import place_of

from predawn.csrc._core import ABSENT, EmbeddingCache

Ids = Sequence[int] | NDArray[np.int64]
SEED = bytes(range(32))


class Answer(NamedTuple):
    """Of a read, one per key."""

    rows: NDArray[np.float32]
    ages: NDArray[np.int64]
    states: NDArray[np.uint8]
    snapshots: NDArray[np.uint32]


class Seen(NamedTuple):
    """Of a scan, one per entry."""

    ids: list[int]
    written_at_ms: list[int]
    snapshots: list[int]
    origins: list[int]
    rows: list[list[float]]


def keys_of(ids: Ids) -> NDArray[np.uint64]:
    """(id, 0) each."""
    keys = np.zeros((len(ids), 2), np.uint64)
    keys[:, 0] = ids
    return keys


def rows_of(ids: Ids, values: int, version: float = 0) -> NDArray[np.float32]:
    """The id, then the version in every other column."""
    rows = np.full((len(ids), values), version, np.float32)
    rows[:, 0] = ids
    return rows


def put(
    store: EmbeddingCache,
    ids: Ids,
    *,
    version: float = 0,
    now_ms: int = 0,
    snapshot: int = 0,
    origin: int = 0,
) -> int:
    """How many were written, of rows as `rows_of` makes them."""
    rows = rows_of(ids, store.dim * store.parts, version)
    return store.put_many(keys_of(ids), rows, now_ms, snapshot, origin)


def get(
    store: EmbeddingCache,
    ids: Ids,
    *,
    now_ms: int = 0,
    max_age_ms: int = 10**9,
    fresh_ms: int | None = None,
) -> Answer:
    """Served parts; -1 in a row's columns where nothing was found."""
    answer = Answer(
        np.full((len(ids), store.dim), -1, np.float32),
        np.empty(len(ids), np.int64),
        np.empty(len(ids), np.uint8),
        np.zeros(len(ids), np.uint32),
    )
    rows, ages, states, snapshots = answer
    keys = keys_of(ids)
    found = store.get_many(keys, now_ms, max_age_ms, rows, ages, snapshots, fresh_ms, states)
    assert found == (ages >= 0).sum()
    return answer


def present(store: EmbeddingCache, ids: Ids) -> list[int]:
    """Those of the ids that the store holds; not a use of them."""
    held = set(scanned(store).ids)
    return [int(number) for number in ids if int(number) in held]


def found(store: EmbeddingCache, ids: Ids) -> list[int]:
    """Those of the ids that a reader finds, of any age: a use of each."""
    states = get(store, ids).states
    return [int(number) for number, state in zip(ids, states, strict=True) if state != ABSENT]


def scanned(
    store: EmbeddingCache, room: int = 1_000, between: Callable[[], None] | None = None
) -> Seen:
    """A whole scan in the order of ways; `between` is called after each step."""
    seen = Seen([], [], [], [], [])
    cursor, done = 0, False
    while not done:
        keys, rows = np.empty((room, 2), np.uint64), np.empty((room, store.dim * store.parts), "f4")
        columns = np.empty(room, np.int64), np.empty(room, np.uint32), np.empty(room, np.uint8)
        n, cursor = store.scan(cursor, keys, *columns, rows)
        for to, column in zip(seen, (keys[:, 0], *columns, rows), strict=True):
            to += column[:n].tolist()
        done = cursor == 0
        if between is not None:
            between()
    return seen


def set_of(store: EmbeddingCache, number: int) -> int:
    """The set where an id belongs."""
    return place_of((number, 0), store.seed, store.capacity // 14, store.placement)[0]


def ids_in_set(store: EmbeddingCache, index: int, wanted: int, start: int = 0) -> list[int]:
    """The first ids from `start` on that belong into one set."""
    matching: Iterator[int] = (n for n in count(start) if set_of(store, n) == index)
    return list(islice(matching, wanted))
