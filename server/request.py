"""What travels through the server: plain data, no behaviour.

Order of life: `RankRequest` (from the codec) -> `UserRow` per user model and `PairRows` per pair
model -> `RankBatch` (to the ranker) -> `RankReply` (to the codec). `UserBatch` is what a user model
sees, `PairBatch` what a model of user-item pairs sees.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

UserId: TypeAlias = int | str
"""An unsigned 64-bit integer or a string; 1 and "1" are different users."""

F32 = NDArray[np.float32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


class Source(IntEnum):
    """Where a served embedding came from. Also a feature of the ranker (one-hot, this order)."""

    DIRECT = 0  # in the store, age <= direct_ttl
    COMPUTED = 1  # computed for this request, which waited
    STALE = 2  # in the store, direct_ttl < age <= failover_ttl, served without waiting
    FAILOVER = 3  # as STALE, served because the inference failed or came too late
    USER_MEAN = 4  # pair models: mean over the user's own pairs
    NEIGHBOUR = 5  # pair models: mean over similar users, same item
    DEFAULT = 6  # the model's default vector
    RECENT = 7  # pair models: mean over the user's last pairs

    @property
    def label(self) -> str:
        """The word used in replies and metrics."""
        return self.name.lower()


class Lane(IntEnum):
    """Strict priorities of the engine: a lower number always goes first."""

    RANK = 0
    WAIT = 1
    REFRESH = 2
    SPECULATE = 3


@dataclass(frozen=True, slots=True)
class RankRequest:
    """One ranking request.

    item_hashes: uint64 [n], the ids as the models see them (an integer id as it is, a string by
        `stable_hash`); item_features: float32 [n, F] in the order of the ranker's
        `item_features`, missing ones 0.
    deadline_ns: on the server's monotonic clock.
    """

    user: UserId
    item_hashes: U64
    item_features: F32
    ranker: str
    deadline_ns: int
    top_k: int
    explain: bool = False
    request_id: str = ""


@dataclass(slots=True)
class UserRow:
    """One user's embedding of one user model as served. row: float32 [dim]; age_ms -1: none."""

    source: Source
    age_ms: int
    row: F32
    snapshot: int = 0
    reason: str = ""  # why it is not fresh: "timeout", "overloaded", "failed: ..."


@dataclass(frozen=True, slots=True)
class PairRows:
    """One pair model's embeddings of a request's candidates as served. rows: float32 [n, dim];
    sources: uint8 [n], `Source`; ages_ms: int64 [n], -1: none; counts: candidates by `Source`."""

    rows: F32
    sources: U8
    ages_ms: I64
    counts: list[int]


@dataclass(slots=True)
class RankReply:
    """order: int64 [k], positions in the request, best first; scores: float32 [n], all of them.

    task_scores: float32 [n, tasks]. stages_ns: stage name -> nanoseconds. pairs: by
    pair model of the ranker.
    """

    order: I64
    scores: F32
    users: dict[str, UserRow]
    degraded: bool
    task_scores: F32 | None = None
    tasks: tuple[str, ...] = ()
    stages_ns: dict[str, int] = field(default_factory=dict[str, int])
    pairs: dict[str, PairRows] = field(default_factory=dict[str, PairRows])


@dataclass(frozen=True, slots=True)
class UserBatch:
    """The recent past of B users, as a user model sees it. A function of the history alone (never
    of "now"), so that the same history gives the same embedding in training, serving and replay.

    users: uint64 [B] stable hash of the id; items: uint64 [B, H] newest first, 0 where empty;
    types: uint16 [B, H] bit per event type; ages_ms: int64 [B, H] before the user's newest event;
    lengths: int32 [B] used columns; counts: float32 [B, T] lifetime events per type;
    attributes: float32 [B, A], 0 where unknown; hour: float32 [B] UTC hour of the newest event.
    """

    users: U64
    items: U64
    types: NDArray[np.uint16]
    ages_ms: I64
    lengths: NDArray[np.int32]
    counts: F32
    attributes: F32
    hour: F32


@dataclass(frozen=True, slots=True)
class UserItems:
    """Items that a model of pairs is to embed for one user. item_hashes: uint64 [n], as models see
    them, each once."""

    user: UserId
    item_hashes: U64


@dataclass(frozen=True, slots=True)
class PairBatch:
    """R pairs of U users, jagged: user u owns rows offsets[u]:offsets[u + 1].

    users: the past of the U users; offsets: int64 [U + 1]; item_hashes: uint64 [R].
    """

    users: UserBatch
    offsets: I64
    item_hashes: U64


_NO_PAIRS: F32 = np.zeros((0, 0), dtype=np.float32)
_NO_SOURCES: U8 = np.zeros((0, 0), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class RankBatch:
    """R candidates of U requests, jagged: request u owns rows offsets[u]:offsets[u + 1].

    user: float32 [U, sum of the user models' dims], in the ranker's order of user models;
    sources: uint8 [U, user models], `Source`; offsets: int64 [U + 1];
    item_hashes: uint64 [R]; item_features: float32 [R, F].
    pairs: float32 [R, sum of the pair models' dims], in the ranker's order of pair models, any
    values where nothing is known; pair_sources: uint8 [R, pair models], `Source`, DEFAULT where
    nothing is known. Both are [0, 0] for a ranker that reads no pair model.
    """

    user: F32
    sources: U8
    offsets: I64
    item_hashes: U64
    item_features: F32
    pairs: F32 = field(default_factory=lambda: _NO_PAIRS)
    pair_sources: U8 = field(default_factory=lambda: _NO_SOURCES)
