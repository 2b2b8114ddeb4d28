"""The native store and its relatives. Batched calls only; caller-owned buffers; no clock inside."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

INTEGER: int  # id_kind of tables keyed by unsigned 64-bit integers
STRING: int  # id_kind of tables keyed by keyed 128-bit SipHash of strings

def siphash128(key: bytes, data: bytes) -> tuple[int, int]:
    """SipHash-2-4-128 (lo, hi) of `data` under a 16-byte key; the published test vectors hold."""

def siphash64(key: bytes, data: bytes) -> int:
    """SipHash-2-4 (64 bits) of `data` under a 16-byte key."""

def stable_hash(data: bytes) -> int:
    """64-bit hash of a string id as models see it: the same on every machine, for ever."""

@final
class EmbeddingCache:
    """A bounded, set-associative table of embeddings: LRU within a set, TTL judged at read.

    A row has `parts` parts of `dim` values: what is served, then (stabilised models) the raw
    vectors it was averaged from. All methods are safe from any thread; those over many entries
    release the GIL. Arrays are C-contiguous, aligned, of exactly the dtype shown (nothing is
    converted or copied), else ValueError naming the argument; empty batches are fine.

    Room in a full set is made from expired entries first (older than the largest `max_age_ms` of
    any read so far), then from the least recently used. A use is a hit, a put or a touch.
    """

    @staticmethod
    def create(
        *,
        capacity: int,
        dim: int,
        parts: int = 1,
        dtype: str = "fp16",
        id_kind: int = 0,
        seed: bytes | None = None,
    ) -> EmbeddingCache:
        """`capacity` entries at least (rounded up to whole sets of 16); `dtype` "fp32" or "fp16"
        (rounds to nearest even; beyond 65504: infinity); `seed` 32 bytes (16 for the set index,
        16 for the key of string ids), random when None. Memory is taken as it is touched.
        ValueError names the argument; MemoryError when the system refuses the mapping."""
    @property
    def dim(self) -> int: ...
    @property
    def parts(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def id_kind(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def key_of_string(self, text: str) -> tuple[int, int]:
        """This table's key of a string id (STRING tables only, else ValueError)."""
    def get_many(
        self,
        keys: NDArray[np.uint64],
        now_ms: int,
        max_age_ms: int,
        out: NDArray[np.float32],
        ages: NDArray[np.int64],
        snapshots: NDArray[np.uint32] | None = None,
    ) -> int:
        """keys [n, 2] -> out [n, dim] (or [n, parts * dim]: whole rows), ages [n] in ms.
        Age counts from the write; a clock that went back gives 0. Absent, or older than
        `max_age_ms`: ages -1 and the row untouched. Returns the number found."""
    def put_many(
        self,
        keys: NDArray[np.uint64],
        rows: NDArray[np.float32],
        now_ms: int,
        snapshot: int,
        origin: int,
    ) -> int:
        """keys [n, 2], rows [n, parts * dim]; `snapshot` 32 bits, `origin` 8 bits; later
        duplicates win. Returns how many were written (a put may give up; a cache may)."""
    def touch_many(self, keys: NDArray[np.uint64]) -> int:
        """Marks entries as used without reading them; returns how many were there."""
    def invalidate_many(self, keys: NDArray[np.uint64]) -> int:
        """Removes; returns how many were there."""
    def scan(
        self,
        cursor: int,
        keys: NDArray[np.uint64],
        written_at_ms: NDArray[np.int64],
        snapshots: NDArray[np.uint32],
        origins: NDArray[np.uint8],
    ) -> tuple[int, int]:
        """Fills up to len(keys) entries from `cursor` on; returns (entries, next cursor); next
        cursor 0: the end. Entries present throughout a whole scan are seen exactly once. A scan
        is not a use."""
    def stats(self) -> dict[str, Any]:
        """capacity, entries, bytes, hits, misses, expired, inserts, overwrites,
        evictions_live, evictions_expired, invalidations, puts_given_up. Of the keys asked for,
        misses were absent and expired were older than `max_age_ms`."""
    def check(self) -> list[str]:
        """Walks every invariant; the sentences that are violated (empty: sound). May run beside
        other calls; the count of entries is compared only when nothing changed meanwhile."""

@final
class Histogram:
    """Log-linear counts of nanoseconds (or any number from 0 to 2^63 - 1): 1/32 relative error.

    Recording is safe from any thread and waits for nobody.
    """

    def __init__(self) -> None: ...
    def record(self, value: int) -> None: ...
    def record_many(self, values: NDArray[np.int64]) -> None:
        """ValueError on a negative value, and then nothing is recorded."""
    def merge(self, other: Histogram) -> None: ...
    def quantile(self, q: float) -> float:
        """The value of rank ceil(q * count), q in 0..1 (NaN when empty): within 1/64 of it."""
    def counts_at(self, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cumulative counts at or below each bound: what a Prometheus histogram prints. Never too
        many; records within 1/32 below a bound may be missing from it."""
    @property
    def count(self) -> int: ...
    @property
    def sum(self) -> int: ...
    def clear(self) -> None: ...
