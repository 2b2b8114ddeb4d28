"""What the entries of a user's bags stand for: values of events and crosses of them.

Pure functions of [B, n] columns, newest event first, in integers: the same history gives the same
values in a batch of any size. A size of the tower takes the first few of each list, so the small
one's tables are also the first of the larger ones'.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.server.models.mixing import mix
from predawn.server.request import I64, U64, UserBatch

_AGE_EDGES_MS = 1000 * 2 ** np.arange(24, dtype=np.int64)  # 1 s .. 97 days
_HOUR_MS, _HOURS = 3_600_000, 24
_BEHIND = 2  # events beyond the last that a cross may look at


@dataclass(frozen=True, slots=True)
class Events:
    """Newest events, int or uint64 [B, n + 2] (the last two: for `before`), 0 where absent.
    items; patterns: type bits; ages_ms: behind the newest; users, hours: [B, 1]."""

    items: U64
    patterns: U64
    ages_ms: I64
    users: U64
    hours: NDArray[np.float64]

    def now(self, column: U64) -> U64:
        """[B, n] of a column."""
        return column[:, :-_BEHIND]

    def before(self, column: U64, steps: int = 1) -> U64:
        """[B, n]: the column's value `steps` events earlier, 0 where there is none."""
        return column[:, steps : column.shape[1] - _BEHIND + steps]


Cross = Callable[[Events], U64]


def newest_events(batch: UserBatch, count: int) -> tuple[Events, NDArray[np.bool_]]:
    """The newest `count` events, and which of them there are: bool [B, count]."""
    used = np.arange(batch.items.shape[1]) < batch.lengths[:, None]
    width = count + _BEHIND
    events = Events(
        items=padded(np.where(used, batch.items, np.uint64(0)), width),
        patterns=padded(np.where(used, batch.types, np.uint16(0)).astype(np.uint64), width),
        ages_ms=padded(np.where(used, batch.ages_ms, 0), width),
        users=batch.users[:, None],
        hours=batch.hour[:, None].astype(np.float64),
    )
    return events, padded(used, count)


def padded(columns: NDArray, count: int) -> NDArray:  # type: ignore[type-arg]
    """The first `count` of the last axis, zeros appended where there are fewer."""
    if columns.shape[-1] >= count:
        return columns[..., :count]
    filled = np.zeros((*columns.shape[:-1], count), columns.dtype)
    filled[..., : columns.shape[-1]] = columns
    return filled


def _pattern(events: Events) -> U64:
    return events.now(events.patterns) << np.uint64(16)


def _age(events: Events) -> U64:
    """log2 of the age, 0 .. 24."""
    ages = events.ages_ms[:, :-_BEHIND]
    return _seconds_log2(ages)


def _gap(events: Events) -> U64:
    """log2 of the time since the event before."""
    ages = events.ages_ms
    gaps = np.maximum(ages[:, 1:-1] - ages[:, :-_BEHIND], 0)
    return _seconds_log2(gaps)


def _seconds_log2(spans_ms: I64) -> U64:
    return np.searchsorted(_AGE_EDGES_MS, spans_ms, side="right").astype(np.uint64)


def _hour(events: Events) -> U64:
    """Hour of the day of each event, 0 .. 23."""
    at = events.hours - events.ages_ms[:, :-_BEHIND] / _HOUR_MS
    return np.floor(at % _HOURS).astype(np.uint64)


def _item(events: Events) -> U64:
    return mix(events.now(events.items))


def _item_pair(events: Events) -> U64:
    return mix(_item(events) ^ events.before(events.items))


def _user(events: Events) -> U64:
    return mix(events.users)


EVENT_CROSSES: tuple[Cross, ...] = (
    lambda e: _pattern(e) | _age(e),
    lambda e: _item(e) ^ _pattern(e),
    lambda e: _pattern(e) | e.before(e.patterns),
    _item,
    lambda e: _item(e) ^ _age(e),
    _item_pair,
    lambda e: _pattern(e) | _gap(e),
    lambda e: _pattern(e) | _hour(e),
    lambda e: _pattern(e) << np.uint64(16) | e.before(e.patterns) << np.uint64(16)
    | e.before(e.patterns, 2),
    lambda e: _user(e) ^ _pattern(e),
    lambda e: mix(_user(e) ^ e.now(e.items)),
    lambda e: _pattern(e) | e.before(e.patterns, 2),
    lambda e: _item_pair(e) ^ _pattern(e),
)  # fmt: skip
"""Of the newest events: types x age, item x types, types of two neighbours; item, item x age, two
neighbouring items, types x gap to the event before, types x hour, types of three neighbours,
user x types; user x item, types of two events two apart, two neighbouring items x types."""

TYPE_CROSSES: tuple[Cross, ...] = (
    lambda e: e.now(e.items),
    lambda e: _item(e) ^ _age(e),
    lambda e: _item(e) ^ _pattern(e),
    lambda e: _hour(e) << np.uint64(16) | _age(e),
    lambda e: mix(_user(e) ^ e.now(e.items)),
)
"""Of the newest events of one type: item; item x age, item x all its types, hour x age; user x
item."""


def user_columns(batch: UserBatch, bag: int) -> list[tuple[U64, NDArray[np.bool_]]]:
    """Values and presence [B, bag]: the user, the hour of the newest event, the lifetime counts of
    the first `bag` types in half-powers of two; user x hour."""
    known = batch.lengths > 0
    one = padded(known[:, None], bag)
    hour = np.floor(batch.hour).astype(np.uint64)[:, None]
    counts = batch.counts[:, :bag].astype(np.float64)
    steps = np.floor(2 * np.log2(1 + counts)).astype(np.uint64)
    names = np.arange(counts.shape[1], dtype=np.uint64) << np.uint64(32)
    users = batch.users[:, None]
    return [
        (padded(users, bag), one),
        (padded(hour, bag), one),
        (padded(names | steps, bag), padded((counts >= 0) & known[:, None], bag)),
        (padded(mix(users) ^ hour, bag), one),
    ]
