"""Request bytes -> typed arrays, and back, with no Python object per candidate."""

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

class CodecError(ValueError):
    """`field`: JSON path such as "items[3].id" ("" for the body); `reason`: what is wrong."""

    field: str
    reason: str

@final
class RankBody:
    """A decoded body of POST /v1/rank. Absent members have the value in brackets."""

    user: int | str
    ranker: str  # [""]
    top_k: int  # [0: all]
    timeout_ms: float  # [0.0: the server's default]
    explain: bool  # [False]
    count: int  # candidates n
    item_hashes: NDArray[np.uint64]  # [n]; integers as they are, strings by stable_hash
    item_features: NDArray[np.float32]  # [n, F] in the order of `feature_names`
    items_are_strings: bool

    def pair_keys(self, key: bytes) -> NDArray[np.uint64]:
        """[n, 2] keys of (user, item): (user, item) for integers; else SipHash-128 under `key`."""
    def encode_reply(
        self,
        ranker: str,
        order: NDArray[np.int64],
        scores: NDArray[np.float32],
        tail: bytes,
    ) -> bytes:
        """{"ranker":..., "items":[{"id":...,"score":...}, ...],<tail>}: ids as they came in,
        scores as the shortest text that reads back as the same float32."""

def decode_rank(body: bytes, feature_names: Sequence[str], max_items: int) -> RankBody:
    """CodecError on anything that is not valid: malformed JSON, wrong types, unknown members (with
    the nearest known), no or more than `max_items` items, duplicate items, ids out of range,
    mixed id kinds, features that are unknown or not finite."""

@final
class EventsBody:
    """A decoded body of POST /v1/events: columns of n events in the order sent."""

    count: int
    users: list[int | str]
    items: NDArray[np.uint64]  # [n] stable hashes
    t_ms: NDArray[np.int64]  # [n]; -1 where absent: the server's now
    types: NDArray[np.uint16]  # [n] bit per entry of `type_names`
    attributes: list[tuple[int | str, dict[str, float]]]  # from "users"

def decode_events(
    body: bytes, type_names: Sequence[str], attribute_names: Sequence[str], max_events: int
) -> EventsBody:
    """{"events": [{"user", "item", "type" | "types": [...], "t_ms"?}, ...],
    "users"?: [{"id", "attributes": {name: number}}]}; CodecError as `decode_rank`."""

def concat(
    hashes: Sequence[NDArray[np.uint64]], features: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.uint64], NDArray[np.float32], NDArray[np.int64]]:
    """Jagged batch of several requests' candidates: (hashes [R], features [R, F], offsets)."""
