"""The store, entry by entry: the naive twin of csrc/table.hpp, csrc/rows.hpp and csrc/key.hpp.

It foretells every answer, victim, hint and count of a store, as long as nobody else changes it
meanwhile and its steering has learnt nothing yet (csrc/steering.hpp).
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from policy_twin import WAYS, Newcomer, Rule, Way, choose

F32 = NDArray[np.float32]
Key = tuple[int, int]

MASK = 2**64 - 1
ODD = 0x9E3779B97F4A7C15
USER_SETS = 64
CLOCK_SETS = (0, 16, 32)
ABSENT, EXPIRED, STALE, FRESH = range(4)
SPECULATIVE = 1
EVICTIONS = {
    "expired": "evictions_expired",
    "quota": "evictions_quota",
    "speculative": "evictions_speculative",
    "hand": "evictions_hand",
    "hand_by_speculative": "evictions_by_speculative",
}


def place_of(key: Key, seed: bytes, sets: int, placement: str = "hashed") -> tuple[int, int]:
    """The set and the 12-bit fingerprint of a key."""
    a, b = int.from_bytes(seed[:8], "little"), int.from_bytes(seed[8:16], "little") | 1
    mixed = _fold(_fold(key[0] ^ a, key[1] ^ b) ^ a, ODD)
    if placement == "hashed":
        return (mixed * sets) >> 64, mixed & 0xFFF
    user = _fold(_fold(key[0] ^ a, b) ^ a, ODD)
    near = (mixed * min(sets, USER_SETS)) >> 64
    return (((user * sets) >> 64) + near) % sets, mixed & 0xFFF


def _fold(x: int, y: int) -> int:
    product = x * y
    return (product & MASK) ^ (product >> 64)


def given_back(rows: F32, dtype: str, parts: int) -> F32:
    """What the store gives back for `rows` [n, parts * dim] of ordinary numbers."""
    if dtype == "fp16":
        return rows.astype(np.float16).astype(np.float32)
    if dtype == "bf16":
        bits = rows.view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
        return rounded.astype(np.uint32).view(np.float32)
    if dtype == "int8":
        split = rows.reshape(len(rows), parts, rows.shape[1] // parts)
        scales = np.abs(split).max(axis=2, keepdims=True) / np.float32(127)
        inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
        return (np.rint(split * inverse) * scales).astype(np.float32).reshape(rows.shape)
    return rows.copy()


@dataclass(slots=True)
class Entry:
    """`order`: of its writing. `row`: as it is given back."""

    key: Key
    row: F32
    written_at_ms: int
    snapshot: int
    origin: int
    fingerprint: int = 0
    order: int = 0

    def age_ms(self, now_ms: int) -> int:
        return min(max(0, now_ms - self.written_at_ms), 2**63 - 1)


@dataclass(slots=True)
class SetTwin:
    """The ways of a set, what they hold, and where the hand points."""

    ways: list[Way] = field(default_factory=lambda: [Way() for _ in range(WAYS)])
    entries: list[Entry | None] = field(default_factory=lambda: [None] * WAYS)
    hand: int = 0

    def at(self, way: int) -> Entry:
        entry = self.entries[way]
        assert entry is not None
        return entry

    def find(self, key: Key) -> int | None:
        for way, entry in enumerate(self.entries):
            if entry is not None and entry.key == key:
                return way
        return None

    def probes(self, key: Key, fingerprint: int) -> int:
        """Slots that a reader of the key looks at."""
        looked = 0
        for entry in self.entries:
            looked += entry is not None and entry.fingerprint == fingerprint
            if entry is not None and entry.key == key:
                break
        return looked

    def make_room(self, newcomer: Newcomer, now_ms: int, longest_age_ms: int) -> tuple[int, str]:
        """The way that is to be taken, and why; the other ways' hints change as they should."""
        choice = choose(
            self.ways,
            self.hand,
            newcomer,
            lambda way: self.at(way).age_ms(now_ms) > longest_age_ms,
            lambda way: self.at(way).order,
        )
        self.hand = choice.hand
        for way in choice.unvisit:
            self.ways[way].visited = False
        for way in choice.survive:
            self.ways[way].survived = True
        for way in choice.renew:
            self.ways[way].survived = False
        return choice.way, choice.cause


@dataclass(slots=True)
class StoreTwin:
    """A store of `sets` sets. Methods that count add to the `counts` of whoever calls."""

    seed: bytes
    sets: int
    placement: str = "hashed"
    floor: int = 0
    longest_age_ms: int = 0
    writes: int = 0
    held: list[SetTwin] = field(default_factory=list[SetTwin])

    def __post_init__(self) -> None:
        self.held = [SetTwin() for _ in range(self.sets)]

    def entries(self) -> list[Entry]:
        """All that are there, in the order of ways."""
        return [entry for held in self.held for entry in held.entries if entry is not None]

    def place(self, key: Key) -> tuple[int, int]:
        return place_of(key, self.seed, self.sets, self.placement)

    def find(self, key: Key) -> tuple[SetTwin, int | None, int]:
        index, fingerprint = self.place(key)
        return self.held[index], self.held[index].find(key), fingerprint

    def accept_age(self, max_age_ms: int) -> None:
        self.longest_age_ms = max(self.longest_age_ms, max_age_ms, 1)

    def get(
        self, key: Key, now_ms: int, max_age_ms: int, fresh_ms: int, counts: Counter[str]
    ) -> tuple[int, Entry | None]:
        """The state, and the entry if it is a hit. Call `accept_age` before a batch."""
        held, way, fingerprint = self.find(key)
        counts["probes"] += held.probes(key, fingerprint)
        if way is None:
            counts["misses"] += 1
            return ABSENT, None
        entry = held.at(way)
        age_ms = entry.age_ms(now_ms)
        if entry.snapshot < self.floor:
            counts["misses"] += 1
            counts["misses_outdated"] += 1
            return ABSENT, None
        if age_ms > max_age_ms:
            counts["expired"] += 1
            return EXPIRED, None
        self._use(held.ways[way], entry, counts)
        state = FRESH if age_ms <= fresh_ms else STALE
        counts["hits"] += 1
        counts["hits_fresh" if state == FRESH else "hits_stale"] += 1
        return state, entry

    @staticmethod
    def _use(way: Way, entry: Entry, counts: Counter[str]) -> None:
        if entry.origin == SPECULATIVE:
            counts["hits_speculative"] += 1
            counts["promotions"] += not way.demanded
        counts["hints_set"] += not (way.visited and way.demanded)
        way.visited = way.demanded = True

    def put(self, entry: Entry, counts: Counter[str]) -> None:
        """At the time `entry.written_at_ms`."""
        held, own, entry.fingerprint = self.find(entry.key)
        self.writes += 1
        entry.order = self.writes
        counts["put_set_reads"] += 2
        is_demanded = entry.origin != SPECULATIVE
        stamp = self._stamp(entry.written_at_ms)
        if own is not None:
            counts["overwrites"] += 1
            held.entries[own] = entry
            held.ways[own].demanded |= is_demanded
            held.ways[own].stamp = stamp
            return
        rule, quota = self._steered(self.place(entry.key)[0])
        asks = Newcomer(not is_demanded, quota, rule, stamp, self.longest_age_ms > 0)
        way, cause = held.make_room(asks, entry.written_at_ms, self.longest_age_ms)
        counts["inserts"] += 1
        if cause != "none":
            counts[EVICTIONS[cause]] += 1
            counts["evictions_live"] += cause != "expired"
        held.entries[way] = entry
        held.ways[way] = Way(valid=True, demanded=is_demanded, stamp=stamp)

    def touch(self, key: Key) -> bool:
        held, way, _ = self.find(key)
        if way is None or held.at(way).snapshot < self.floor:
            return False
        held.ways[way].visited = held.ways[way].demanded = True
        return True

    def remove(self, key: Key, counts: Counter[str]) -> bool:
        held, way, _ = self.find(key)
        if way is None:
            return False
        held.entries[way] = None
        held.ways[way] = Way()
        counts["invalidations"] += 1
        return True

    def _steered(self, index: int) -> tuple[Rule, int]:
        """The rule and the quota of a set: only whole cycles of 64 sets have leaders."""
        is_leader = index < self.sets // 64 * 64
        rule: Rule = "clock" if is_leader and index % 64 in CLOCK_SETS else "sieve"
        return rule, 2 if is_leader and index % 8 == 6 else 1

    def _stamp(self, written_at_ms: int) -> int:
        shift = max(self.longest_age_ms.bit_length() - 2, 0)
        return (written_at_ms >> shift) & 15
