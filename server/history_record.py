"""What is kept of one user: a fixed-size record of bytes, and how it becomes a `UserBatch`.

Layout, packed and little-endian (A: attributes, H: `length`):

    format u16 | used u16 | counts u32[16] | attributes f32[A] | events [H] of (item u64, t_ms i64,
    types u16)

Invariant: the first `used` events are sorted newest first by (t_ms, arrival): of two events with
the same time the one that arrived later comes first; everything behind them is zero. Pure: no
store, no clock. `History` (LMDB) and `MemoryHistory` share it, so training, replay and serving
see the same features. Events lie side by side, so that a push moves bytes and decodes none.
"""

import bisect
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from predawn.csrc._core import stable_hash
from predawn.server.errors import BadRequest, UnknownName
from predawn.server.request import I64, U64, UserBatch, UserId

FORMAT = 1
TYPES_LIMIT = 16
USER_BYTES_LIMIT = 256
"""Longest string id in UTF-8: LMDB's keys end at 511 bytes."""

_TOO_LONG = f"an id has at most {USER_BYTES_LIMIT} bytes"
_COUNT_LIMIT = 2**32 - 1
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000
_HEAD = struct.Struct("<HH16I")
_USED = struct.Struct("<H")
_COUNT = struct.Struct("<I")
_ATTRIBUTE = struct.Struct("<f")
_EVENT = struct.Struct("<QqH")
_TIME = struct.Struct("<q")
_USED_AT, _COUNTS_AT, _TIME_IN_EVENT = 2, 4, 8


@dataclass(frozen=True, slots=True)
class Events:
    """n events in order of arrival, and attributes that are set at the same time.

    users: n ids; items: uint64 [n] stable hashes; types: uint16 [n] bit per event type;
    t_ms: int64 [n] since the Unix epoch, -1: now (only `History` has a now);
    attributes: (user, {name: finite number}), applied in order.
    """

    users: Sequence[UserId]
    items: U64
    types: np.ndarray[tuple[int], np.dtype[np.uint16]]
    t_ms: I64
    attributes: Sequence[tuple[UserId, dict[str, float]]] = field(
        default_factory=list[tuple[UserId, dict[str, float]]]
    )


def user_hash(user: UserId) -> int:
    """The id as models see it: an integer as it is, a string by `stable_hash`."""
    return user if isinstance(user, int) else stable_hash(user.encode())


class RecordLayout:
    """Where things lie in a record for given types, attributes and length."""

    def __init__(self, types: Sequence[str], attributes: Sequence[str], length: int) -> None:
        if not 1 <= len(types) <= TYPES_LIMIT or length < 1:
            raise ValueError(f"need 1..{TYPES_LIMIT} types and a length, got {types!r}, {length}")
        self.types = tuple(types)
        self.attributes = tuple(attributes)
        self.length = length
        self._attribute_at = {
            name: _HEAD.size + i * _ATTRIBUTE.size for i, name in enumerate(self.attributes)
        }
        self._events_at = _HEAD.size + len(self.attributes) * _ATTRIBUTE.size
        self.size = self._events_at + length * _EVENT.size

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """The record as a numpy structure (packed)."""
        event = np.dtype([("item", "<u8"), ("t_ms", "<i8"), ("types", "<u2")])
        return np.dtype(
            [
                ("format", "<u2"),
                ("used", "<u2"),
                ("counts", "<u4", (TYPES_LIMIT,)),
                ("attributes", "<f4", (len(self.attributes),)),
                ("events", event, (self.length,)),
            ]
        )

    @cached_property
    def nothing(self) -> bytes:
        """The record of a user of whom nothing is known: no events, attributes NaN (absent)."""
        head = _HEAD.pack(FORMAT, 0, *[0] * TYPES_LIMIT)
        absent = _ATTRIBUTE.pack(float("nan")) * len(self.attributes)
        return head + absent + bytes(self.length * _EVENT.size)

    def resized(self, record: bytes | memoryview) -> bytes:
        """A record that was written under another `length`: the oldest events go, or zeros come."""
        raw = bytes(record)
        used = min(int(_USED.unpack_from(raw, _USED_AT)[0]), self.length)
        kept = raw[: self._events_at + used * _EVENT.size].ljust(self.size, b"\0")
        return kept[:_USED_AT] + _USED.pack(used) + kept[_COUNTS_AT:]

    def push(self, record: bytearray, item: int, t_ms: int, types: int) -> None:
        """One event into `record`: counted for each of its types, and put at its place in time;
        an event older than all of a full record is counted only. Counts saturate."""
        self._count(record, types)
        used: int = _USED.unpack_from(record, _USED_AT)[0]
        place = self._place(record, used, t_ms)
        if place >= self.length:
            return
        at = self._events_at + place * _EVENT.size
        record[at:at] = _EVENT.pack(item, t_ms, types)
        del record[-_EVENT.size :]
        _USED.pack_into(record, _USED_AT, min(used + 1, self.length))

    def set_attribute(self, record: bytearray, name: str, value: float) -> None:
        """Sets one attribute; NaN forgets it. KeyError: no such name."""
        _ATTRIBUTE.pack_into(record, self._attribute_at[name], value)

    def _count(self, record: bytearray, types: int) -> None:
        while types:
            at = _COUNTS_AT + ((types & -types).bit_length() - 1) * _COUNT.size
            _COUNT.pack_into(record, at, min(_COUNT.unpack_from(record, at)[0] + 1, _COUNT_LIMIT))
            types &= types - 1

    def _place(self, record: bytearray, used: int, t_ms: int) -> int:
        """Index of the first kept event that is not newer than `t_ms`."""
        first = self._events_at + _TIME_IN_EVENT

        def age_order(index: int) -> int:
            return -int(_TIME.unpack_from(record, first + index * _EVENT.size)[0])

        if used == 0 or -t_ms <= age_order(0):
            return 0
        return bisect.bisect_left(range(used), -t_ms, key=age_order)

    def check(self, events: Events) -> None:
        """BadRequest or UnknownName (naming the event) if `events` cannot be stored."""
        for index, user in enumerate(events.users):
            if _too_long(user):
                raise BadRequest(f"events[{index}].user", _TOO_LONG)
        foreign = np.flatnonzero(events.types >> np.uint16(len(self.types)))
        if len(foreign):
            raise BadRequest(f"events[{foreign[0]}].types", f"known: {', '.join(self.types)}")
        for index, (user, values) in enumerate(events.attributes):
            if _too_long(user):
                raise BadRequest(f"users[{index}].id", _TOO_LONG)
            for name in values:
                if name not in self._attribute_at:
                    raise UnknownName(f"users[{index}].attributes", name, self.attributes)

    def apply(self, events: Events, records: dict[UserId, bytearray]) -> None:
        """Pushes every event and attribute into its user's record, all of which must be there."""
        items, t_ms, types = events.items.tolist(), events.t_ms.tolist(), events.types.tolist()
        for user, item, t, bits in zip(events.users, items, t_ms, types, strict=True):
            self.push(records[user], item, t, bits)
        for user, values in events.attributes:
            for name, value in values.items():
                self.set_attribute(records[user], name, value)

    def batch(self, users: Sequence[UserId], records: bytes) -> UserBatch:
        """`records`: those of `users`, end to end, each of `size` bytes -> what models see."""
        rows = np.frombuffer(records, dtype=self.dtype)
        events = rows["events"]
        lengths = rows["used"].astype(np.int32)
        times = events["t_ms"]
        newest = times[:, :1]
        present = np.arange(self.length) < lengths[:, None]
        attributes = rows["attributes"].astype(np.float32)
        return UserBatch(
            users=np.fromiter(map(user_hash, users), dtype=np.uint64, count=len(users)),
            items=np.ascontiguousarray(events["item"]),
            types=np.ascontiguousarray(events["types"]),
            ages_ms=np.where(present, newest - times, 0),
            lengths=lengths,
            counts=rows["counts"][:, : len(self.types)].astype(np.float32),
            attributes=np.where(np.isnan(attributes), np.float32(0), attributes),
            hour=(newest[:, 0] % _DAY_MS / _HOUR_MS).astype(np.float32),
        )


def _too_long(user: UserId) -> bool:
    # A character is at most 4 bytes of UTF-8: nearly every id is settled without encoding it.
    if isinstance(user, int) or len(user) * 4 <= USER_BYTES_LIMIT:
        return False
    return len(user.encode()) > USER_BYTES_LIMIT
