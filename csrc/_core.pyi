"""The native store and its relatives. Batched calls only; caller-owned buffers; no clock inside."""

from os import PathLike
from typing import final

import numpy as np
from numpy.typing import NDArray

INTEGER: int  # id_kind of tables keyed by unsigned 64-bit integers
STRING: int  # id_kind of tables keyed by keyed 128-bit SipHash of strings
ORIGIN_COMPUTED: int  # written because its own key was asked for
ORIGIN_SPECULATIVE: int  # written ahead of any request: lives in the speculative quota of its set
ABSENT: int  # states of get_many, in this order: ABSENT < EXPIRED < STALE < FRESH
EXPIRED: int
STALE: int
FRESH: int

class StoreError(RuntimeError):
    """A store file that is not what it should be (foreign, damaged, another version or shape), that
    others keep busy, or that is closed. The sentence names the file, the field and what to do."""

def nothing() -> None:
    """Does nothing: what a call into native code costs by itself."""

def siphash128(key: bytes, data: bytes) -> tuple[int, int]:
    """SipHash-2-4-128 (lo, hi) of `data` under a 16-byte key; the published test vectors hold."""

def siphash64(key: bytes, data: bytes) -> int:
    """SipHash-2-4 (64 bits) of `data` under a 16-byte key."""

def stable_hash(data: bytes) -> int:
    """64-bit hash of a string id as models see it: the same on every machine, for ever."""

def pair_keys_of_string(
    key: bytes, user: str, items: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> None:
    """Fills `keys` [n, 2] for pairs of a string user and `items` [n]: SipHash-128 under a 16-byte
    key (the second half of a table's seed) of the user's UTF-8 bytes and the item's eight."""

def read_pairs(
    pairs: EmbeddingCache,
    invalidated: EmbeddingCache,
    fills: EmbeddingCache | None,
    level: int,
    user: int | str,
    items: NDArray[np.uint64],
    now_ms: int,
    max_age_ms: int,
    fill_age_ms: int,
    versions: NDArray[np.uint32],
    default: NDArray[np.float32],
    rows: NDArray[np.float32],
    ages: NDArray[np.int64],
    sources: NDArray[np.uint8],
) -> int:
    """What a user is served of his pairs with `items` [n]: `rows` [n, dim], `ages` [n] in ms and
    `sources` [n] of all, whatever they held. A pair of `versions` (none: any) that is at most
    `max_age_ms` old and younger than the user's entry in `invalidated`: source 0. The others: his
    row of `fills` (dim values at its beginning), by the same rules with `fill_age_ms`, of source
    `level`; else `default` [dim], age -1, source 6. `invalidated` and `fills` are keyed by user.
    Returns the source of the absent ones (0 if there are none)."""

def peek_pairs(
    pairs: EmbeddingCache,
    invalidated: EmbeddingCache,
    fills: EmbeddingCache | None,
    level: int,
    user: int | str,
    items: NDArray[np.uint64],
    now_ms: int,
    max_age_ms: int,
    fill_age_ms: int,
    versions: NDArray[np.uint32],
    ages: NDArray[np.int64],
) -> int:
    """`read_pairs` without rows and without being a use: `ages` of the pairs themselves, -1 where
    absent; returns the source that an absent one would be served from."""

@final
class EmbeddingCache:
    """A bounded, set-associative table of embeddings, TTL judged at read, shared by processes.

    A row has `parts` parts of `dim` values: what is served, then (stabilised models) the raw
    vectors it was averaged from. All methods are safe from any thread of any process; reads and
    writes wait for nobody; those over many entries release the GIL. Arrays are numpy's (or CPU
    tensors, pinned ones too, shared without a copy): C-contiguous, aligned, of exactly the dtype
    shown (nothing is converted or copied), else ValueError naming the argument; empty batches are
    fine.

    Room in a full set of 14 is made from expired entries first (older than the largest
    `max_age_ms` of any read so far), then by class (ORIGIN_SPECULATIVE entries live first in,
    first out in a quota of their set until a request reads them), then by CLOCK or SIEVE, whichever
    misses less. A use is a hit or a touch.
    """

    @staticmethod
    def create(
        path: str | PathLike[str] | None = None,
        *,
        capacity: int,
        dim: int,
        parts: int = 1,
        dtype: str = "fp16",
        id_kind: int = 0,
        seed: bytes | None = None,
        placement: str = "hashed",
        huge_pages: bool = True,
        threads: int = 1,
    ) -> EmbeddingCache:
        """Room for `capacity` entries at least, at `path`, which must not exist, or (None) in
        memory that only this process and its forked children see.

        dtype: "fp32", "fp16" (both rounded to nearest even), "bf16", or "int8" with a scale per
        part (at most 4 parts). seed: 32 bytes that spread keys over sets (random when None).
        placement: "user_major" puts the pairs (user, item) of a user into neighbouring sets.
        huge_pages: takes and maps all memory now, on huge pages where the kernel allows. threads:
        that share a batch of thousands. ValueError naming a bad argument; StoreError when `path`
        exists; OSError (no space, no permission) or MemoryError before anything is kept.
        """

    @staticmethod
    def attach(path: str | PathLike[str], *, threads: int = 1) -> EmbeddingCache:
        """The store at `path`, as its header describes it. After an unclean stop every entry is
        verified first, and all that are sound are kept. StoreError or OSError, and nothing is
        written, when it is no store of this version or is damaged."""

    def close(self) -> None:
        """Leaves the store; calls of other threads must have ended. The last one to leave marks
        the file as clean. Later calls are StoreErrors. Closing twice is fine."""
    def __enter__(self) -> EmbeddingCache: ...
    def __exit__(self, *error: object) -> None: ...
    @property
    def path(self) -> str | None: ...
    @property
    def dim(self) -> int: ...
    @property
    def parts(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def id_kind(self) -> int: ...
    @property
    def placement(self) -> str: ...
    @property
    def seed(self) -> bytes: ...
    @property
    def capacity(self) -> int:
        """Entries that fit: a multiple of 14."""
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
        fresh_ms: int | None = None,
        states: NDArray[np.uint8] | None = None,
    ) -> int:
        """keys [n, 2] -> out [n, dim] (or [n, parts * dim]: whole rows), ages [n] in ms.
        Age counts from the write; a clock that went back gives 0. Absent, or older than
        `max_age_ms`: ages -1 and the row untouched. `states` [n]: FRESH up to `fresh_ms` (None:
        `max_age_ms`), STALE up to `max_age_ms`, EXPIRED, ABSENT: direct and failover reads in one.
        Returns the number found."""
    def put_many(
        self,
        keys: NDArray[np.uint64],
        rows: NDArray[np.float32],
        now_ms: int,
        snapshot: int,
        origin: int,
    ) -> int:
        """keys [n, 2], rows [n, parts * dim]; `snapshot` 32 bits, `origin` 8 bits; later
        duplicates win. Returns how many were written: a put gives up (counted) when others change
        its set again and again, or when stopped processes hold every slot of it."""
    def peek_many(
        self,
        keys: NDArray[np.uint64],
        now_ms: int,
        max_age_ms: int,
        ages: NDArray[np.int64],
        snapshots: NDArray[np.uint32] | None = None,
    ) -> int:
        """`get_many` without rows and without being a use: nothing is counted, promoted or learnt
        for eviction, and no age is accepted."""
    def touch_many(self, keys: NDArray[np.uint64]) -> int:
        """Marks entries as used without reading them; returns how many were there."""
    def invalidate_many(self, keys: NDArray[np.uint64]) -> int:
        """Removes; returns how many were there."""
    def invalidate_before(self, snapshot: int) -> None:
        """Entries of lower snapshots count as absent from now on, for all who are attached: one
        word is written, whatever the size of the store. It never goes down again."""
    def scan(
        self,
        cursor: int,
        keys: NDArray[np.uint64],
        written_at_ms: NDArray[np.int64],
        snapshots: NDArray[np.uint32],
        origins: NDArray[np.uint8],
        rows: NDArray[np.float32] | None = None,
    ) -> tuple[int, int]:
        """Fills up to len(keys) entries from `cursor` on; returns (entries, next cursor); next
        cursor 0: the end. Entries present throughout a whole scan are seen exactly once. `rows`
        [n, parts * dim]: whole rows too. A scan is not a use."""
    def stats(self) -> dict[str, int]:
        """What this process did and saw, and what the store is: capacity, entries, bytes,
        huge_bytes (mapped by huge pages); of the keys read hits (hits_fresh + hits_stale), misses
        (misses_raced, misses_outdated among them), expired; hits_speculative, promotions; inserts,
        overwrites, puts_given_up (puts_busy, puts_no_slot, puts_no_journal); evictions_live (by
        evictions_quota, _speculative, _hand, _by_speculative), evictions_expired; invalidations;
        claims_reaped; policy_sieve, speculative_quota (what is in force now); recovered_kept and
        recovered_dropped (entries, by the attach after an unclean stop)."""
    def samples(self) -> dict[str, Histogram]:
        """Of one set in 64: age_at_hit_ms, reuse_gap_ms (between two reads of a key), lifetime_ms
        (until eviction). Copies."""
    def check(self) -> list[str]:
        """Walks every invariant; the sentences that are violated (empty: sound). May run beside
        other calls; the count of entries is compared only when nothing changed meanwhile."""
    def reap(self) -> int:
        """Takes back what processes that died were writing; returns how many slots. Puts do it by
        themselves when they miss the slots."""

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
