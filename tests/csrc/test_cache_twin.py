"""The store against its twin: every answer, victim, order of ways and count the same.

What happens is drawn at random: small tables of one set or a few, in memory or in a file that is
closed and attached to again, used through one attachment or two at once.
"""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray
from policy_twin import WAYS
from store_twin import STALE, Entry, Key, StoreTwin, given_back

from predawn.csrc._core import EmbeddingCache

DIM, PARTS, KEYS_A_SET = 3, 2, 24
ALWAYS_ZERO = """huge_bytes misses_raced puts_given_up puts_busy puts_no_slot puts_no_journal
    ways_lost removes_busy claims_reaped recovered_kept recovered_dropped"""
COUNTED = """hits hits_fresh hits_stale hits_speculative promotions misses misses_outdated expired
    probes hints_set inserts overwrites evictions_live evictions_expired evictions_quota
    evictions_speculative evictions_hand evictions_by_speculative invalidations put_set_reads"""
SEEDS = [bytes(range(32)), bytes(range(100, 132)), b"seeds spread keys over all sets."]
IDS = st.lists(st.integers(0, 71), max_size=20)
VIA = st.integers(0, 1)


def key_of(number: int) -> Key:
    """Keys that differ in one half only, then the other."""
    return number // 5, 2**64 - 1 - number % 5


def array_of(keys: list[Key]) -> NDArray[np.uint64]:
    return np.array(keys, np.uint64).reshape(-1, 2)


class StoreAndTwin(RuleBasedStateMachine):
    """`stores`: who is attached, each with what happened through it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000
        self.writes = 0
        self.stores: list[tuple[EmbeddingCache, Counter[str]]] = []
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "store"

    @initialize(
        dtype=st.sampled_from(["fp32", "fp16", "bf16", "int8"]),
        seed=st.none() | st.sampled_from(SEEDS),
        sets=st.sampled_from([1, 1, 1, 2, 3]),
        placement=st.sampled_from(["hashed", "user_major"]),
        in_file=st.booleans(),
    )
    def create(
        self, dtype: str, seed: bytes | None, sets: int, placement: str, in_file: bool
    ) -> None:
        store = EmbeddingCache.create(
            self.path if in_file else None,
            capacity=sets * WAYS - 3,
            dim=DIM,
            parts=PARTS,
            dtype=dtype,
            seed=seed,
            placement=placement,
            huge_pages=False,
        )
        self.dtype, self.in_file = dtype, in_file
        self.twin = StoreTwin(store.seed, sets, placement)
        self.stores = [(store, Counter())]

    def teardown(self) -> None:
        for store, _ in self.stores:
            store.close()
        self.folder.cleanup()

    def through(self, via: int) -> tuple[EmbeddingCache, Counter[str]]:
        return self.stores[via % len(self.stores)]

    def keys(self, ids: list[int]) -> list[Key]:
        return [key_of(number % (KEYS_A_SET * self.twin.sets)) for number in ids]

    @rule(ids=st.permutations(range(72)), step_ms=st.integers(0, 30), origin=st.integers(0, 1))
    def fill(self, ids: list[int], step_ms: int, origin: int) -> None:
        """Every way taken, by rows of different ages."""
        for start in range(0, 72, 12):
            self.put(self.keys(ids[start : start + 12]), origin, start, 0)
            self.now_ms += step_ms

    @rule(step_ms=st.integers(-20, 200))
    def move_clock(self, step_ms: int) -> None:
        self.now_ms += step_ms

    @rule(
        ids=IDS,
        origin=st.sampled_from([0, 0, 1, 1, 2, 255]),
        snapshot=st.integers(0, 2**32 - 1) | st.integers(0, 9),
        via=VIA,
    )
    def put_some(self, ids: list[int], origin: int, snapshot: int, via: int) -> None:
        self.put(self.keys(ids), origin, snapshot, via)

    def put(self, keys: list[Key], origin: int, snapshot: int, via: int) -> None:
        store, counts = self.through(via)
        rows = np.empty((len(keys), DIM * PARTS), np.float32)
        for row in rows:
            self.writes = (self.writes + 1) % 1_000
            row[:] = np.float32(np.pi) * self.writes + np.arange(DIM * PARTS) ** 2
        for key, row in zip(keys, given_back(rows, self.dtype, PARTS), strict=True):
            self.twin.put(Entry(key, row, self.now_ms, snapshot, origin), counts)
        written = store.put_many(array_of(keys), rows, self.now_ms, snapshot, origin)
        assert written == len(keys)

    @rule(
        ids=IDS,
        max_age_ms=st.integers(0, 60),
        fresh_ms=st.none() | st.integers(0, 60),
        whole=st.booleans(),
        extras=st.booleans(),
        via=VIA,
    )
    def get(
        self,
        ids: list[int],
        max_age_ms: int,
        fresh_ms: int | None,
        whole: bool,
        extras: bool,
        via: int,
    ) -> None:
        keys, (store, counts) = self.keys(ids), self.through(via)
        out = np.full((len(keys), DIM * PARTS if whole else DIM), -7, np.float32)
        ages, versions = np.full(len(keys), -9, np.int64), np.full(len(keys), 77, np.uint32)
        states = np.full(len(keys), 99, np.uint8)
        more = (versions, fresh_ms, states) if extras else (None, fresh_ms, None)
        found = store.get_many(array_of(keys), self.now_ms, max_age_ms, out, ages, *more)
        self.twin.accept_age(max_age_ms)
        fresh_until_ms = max_age_ms if fresh_ms is None else fresh_ms
        for i, key in enumerate(keys):
            state, entry = self.twin.get(key, self.now_ms, max_age_ms, fresh_until_ms, counts)
            assert (entry is not None) == (state >= STALE)
            assert ages[i] == (-1 if entry is None else entry.age_ms(self.now_ms))
            assert (out[i] == (-7 if entry is None else entry.row[: out.shape[1]])).all()
            assert versions[i] == (entry.snapshot if entry is not None and extras else 77)
            assert states[i] == (state if extras else 99)
        assert found == (ages >= 0).sum()

    @rule(ids=IDS, via=VIA)
    def touch(self, ids: list[int], via: int) -> None:
        keys, (store, _) = self.keys(ids), self.through(via)
        assert store.touch_many(array_of(keys)) == sum(map(self.twin.touch, keys))

    @rule(ids=IDS, via=VIA)
    def invalidate(self, ids: list[int], via: int) -> None:
        keys, (store, counts) = self.keys(ids), self.through(via)
        removed = sum(self.twin.remove(key, counts) for key in keys)
        assert store.invalidate_many(array_of(keys)) == removed

    @rule(snapshot=st.integers(0, 9), via=VIA)
    def invalidate_before(self, snapshot: int, via: int) -> None:
        self.through(via)[0].invalidate_before(snapshot)
        self.twin.floor = max(self.twin.floor, snapshot)

    @rule(room=st.integers(1, 50), whole=st.booleans(), via=VIA)
    def scan(self, room: int, whole: bool, via: int) -> None:
        """Everybody in the order of ways, which only the right victims explain."""
        seen: list[tuple[Key, int, int, int, list[float]]] = []
        cursor, steps = 0, 0
        while steps == 0 or cursor != 0:
            keys, rows = np.empty((room, 2), np.uint64), np.zeros((room, DIM * PARTS), np.float32)
            columns = np.empty(room, np.int64), np.empty(room, np.uint32), np.empty(room, np.uint8)
            given = rows if whole else None
            n, cursor = self.through(via)[0].scan(cursor, keys, *columns, given)
            assert n == room or cursor == 0
            lists = [column[:n].tolist() for column in (*columns, rows)]
            seen += zip(map(tuple, keys[:n].tolist()), *lists, strict=True)
            steps += 1
        nothing = [0.0] * DIM * PARTS
        assert seen == [
            (e.key, e.written_at_ms, e.snapshot, e.origin, e.row.tolist() if whole else nothing)
            for e in self.twin.entries()
            if e.snapshot >= self.twin.floor
        ]

    @precondition(lambda self: self.stores and self.in_file)
    @rule()
    def reopen(self) -> None:
        """All leave and one comes back: nothing is lost but what was counted."""
        for store, _ in self.stores:
            store.close()
        self.stores = [(EmbeddingCache.attach(self.path), Counter())]

    @precondition(lambda self: self.stores and self.in_file)
    @rule(via=VIA)
    def join_or_leave(self, via: int) -> None:
        if len(self.stores) == 1:
            self.stores.append((EmbeddingCache.attach(str(self.path)), Counter()))
        else:
            self.stores.pop(via)[0].close()

    @invariant()
    def counts_agree_and_structure_is_sound(self) -> None:
        for store, counts in self.stores:
            assert store.check() == []
            stats = store.stats()
            assert not any(stats.pop(name) for name in ALWAYS_ZERO.split())
            shape = {"capacity": WAYS * self.twin.sets, "entries": len(self.twin.entries())}
            shape |= {"bytes": store.bytes, "policy_sieve": 1, "speculative_quota": 1}
            assert stats == {name: counts[name] for name in COUNTED.split()} | shape


TestStoreAndTwin = StoreAndTwin.TestCase
TestStoreAndTwin.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
