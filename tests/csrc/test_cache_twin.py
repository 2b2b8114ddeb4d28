"""The store against a dictionary and a list: every answer, eviction and count the same.

A table of capacity 16 is one set, so the twin needs no knowledge of where keys go.
"""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from predawn.csrc._core import EmbeddingCache

WAYS, DIM, PARTS = 16, 3, 2
COUNTS = (
    "hits misses expired inserts overwrites evictions_live evictions_expired invalidations"
    " puts_given_up"
)
KEYS = st.lists(st.integers(0, 23), max_size=20)


@dataclass(slots=True)
class Entry:
    row: NDArray[np.float32]
    written_at_ms: int
    snapshot: int
    origin: int


@dataclass(slots=True)
class Twin:
    """What the store should hold; `order` has the key used last at its end."""

    entries: dict[int, Entry] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    longest_age_ms: int = -1
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS.split(), 0))

    def use(self, key: int) -> None:
        if key in self.order:
            self.order.remove(key)
        self.order.append(key)

    def age(self, key: int, now_ms: int) -> int:
        return max(0, now_ms - self.entries[key].written_at_ms)

    def get(self, key: int, now_ms: int, max_age_ms: int) -> int:
        if key not in self.entries:
            self.counts["misses"] += 1
            return -1
        age = self.age(key, now_ms)
        if age > max_age_ms:
            self.counts["expired"] += 1
            return -1
        self.counts["hits"] += 1
        self.use(key)
        return age

    def put(self, key: int, entry: Entry) -> None:
        if key in self.entries:
            self.counts["overwrites"] += 1
        else:
            self.counts["inserts"] += 1
            self.make_room(entry.written_at_ms)
        self.entries[key] = entry
        self.use(key)

    def make_room(self, now_ms: int) -> None:
        if len(self.entries) < WAYS:
            return
        limit = self.longest_age_ms
        expired = [k for k in self.order if limit >= 0 and self.age(k, now_ms) > limit]
        self.counts["evictions_expired" if expired else "evictions_live"] += 1
        self.remove((expired or self.order)[0])

    def remove(self, key: int) -> None:
        del self.entries[key]
        self.order.remove(key)


def keys_of(ids: list[int]) -> NDArray[np.uint64]:
    """Keys that differ in one half only, then the other."""
    return np.array([(i // 5, 2**64 - 1 - i % 5) for i in ids], np.uint64).reshape(-1, 2)


class StoreAndTwin(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin()
        self.now_ms = 1_000
        self.writes = 0

    @initialize(dtype=st.sampled_from(["fp16", "fp32"]), seed=st.none() | st.just(bytes(32)))
    def create(self, dtype: str, seed: bytes | None) -> None:
        self.store = EmbeddingCache.create(
            capacity=WAYS, dim=DIM, parts=PARTS, dtype=dtype, seed=seed
        )

    @rule(ids=st.permutations(range(24)), step_ms=st.integers(0, 30))
    def fill(self, ids: list[int], step_ms: int) -> None:
        """Every way taken, by rows of different ages."""
        for start in range(0, 24, 6):
            self.put(ids[start : start + 6], 1, start)
            self.now_ms += step_ms

    @rule(step_ms=st.integers(-20, 200))
    def move_clock(self, step_ms: int) -> None:
        self.now_ms += step_ms

    @rule(ids=KEYS, origin=st.integers(0, 255), snapshot=st.integers(0, 2**32 - 1))
    def put_some(self, ids: list[int], origin: int, snapshot: int) -> None:
        self.put(ids, origin, snapshot)

    def put(self, ids: list[int], origin: int, snapshot: int) -> None:
        rows = np.empty((len(ids), DIM * PARTS), np.float32)
        for row, key in zip(rows, ids, strict=True):
            self.writes = (self.writes + 1) % 1_000
            row[:] = self.writes + np.arange(DIM * PARTS)
            self.twin.put(key, Entry(row.copy(), self.now_ms, snapshot, origin))
        written = self.store.put_many(keys_of(ids), rows, self.now_ms, snapshot, origin)
        assert written == len(ids)

    @rule(ids=KEYS, max_age_ms=st.integers(0, 60), whole=st.booleans(), snapshots=st.booleans())
    def get(self, ids: list[int], max_age_ms: int, whole: bool, snapshots: bool) -> None:
        width = DIM * PARTS if whole else DIM
        out = np.full((len(ids), width), -7, np.float32)
        ages = np.full(len(ids), -9, np.int64)
        versions = np.full(len(ids), 77, np.uint32)
        given = versions if snapshots else None
        found = self.store.get_many(keys_of(ids), self.now_ms, max_age_ms, out, ages, given)
        self.twin.longest_age_ms = max(self.twin.longest_age_ms, max_age_ms)
        for i, key in enumerate(ids):
            age = self.twin.get(key, self.now_ms, max_age_ms)
            assert ages[i] == age
            held = self.twin.entries[key] if age >= 0 else None
            assert (out[i] == (-7 if held is None else held.row[:width])).all()
            assert versions[i] == (held.snapshot if held is not None and snapshots else 77)
        assert found == (ages >= 0).sum()

    @rule(ids=KEYS)
    def touch(self, ids: list[int]) -> None:
        present = [key for key in ids if key in self.twin.entries]
        assert self.store.touch_many(keys_of(ids)) == len(present)
        for key in present:
            self.twin.use(key)

    @rule(ids=KEYS)
    def invalidate(self, ids: list[int]) -> None:
        present = set(ids) & set(self.twin.entries)
        assert self.store.invalidate_many(keys_of(ids)) == len(present)
        for key in present:
            self.twin.remove(key)
        self.twin.counts["invalidations"] += len(present)

    @rule(room=st.integers(1, 20))
    def scan(self, room: int) -> None:
        seen: list[tuple[tuple[int, ...], int, int, int]] = []
        cursor, steps = 0, 0
        while steps == 0 or cursor != 0:
            keys = np.empty((room, 2), np.uint64)
            written, snapshots = np.empty(room, np.int64), np.empty(room, np.uint32)
            origins = np.empty(room, np.uint8)
            n, cursor = self.store.scan(cursor, keys, written, snapshots, origins)
            columns = (map(tuple, keys[:n].tolist()), written, snapshots, origins)
            seen += [(k, int(w), int(s), int(o)) for k, w, s, o in zip(*columns, strict=False)]
            steps += 1
        expected = {
            (tuple(keys_of([key])[0].tolist()), e.written_at_ms, e.snapshot, e.origin)
            for key, e in self.twin.entries.items()
        }
        assert set(seen) == expected and len(seen) == len(expected)

    @invariant()
    def counts_agree_and_structure_is_sound(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.check() == []
        shape = {"capacity": WAYS, "bytes": self.store.bytes, "entries": len(self.twin.entries)}
        assert self.store.stats() == self.twin.counts | shape


TestStoreAndTwin = StoreAndTwin.TestCase
TestStoreAndTwin.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
