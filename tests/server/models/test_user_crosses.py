"""Every cross against a loop over one user's events; nothing behind the length is read."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from model_cases import user_batch

from predawn.server.models.mixing import mix
from predawn.server.models.user_crosses import (
    EVENT_CROSSES,
    TYPE_CROSSES,
    newest_events,
    padded,
    user_columns,
)
from predawn.server.request import UserBatch

BATCH = user_batch(40, history=9)


def mixed(value: int) -> int:
    return int(mix(np.array([value % 2**64], dtype=np.uint64))[0])


def steps(value_ms: int) -> int:
    """Classes of seconds in powers of two."""
    return sum(value_ms >= 1000 * 2**k for k in range(24))


@dataclasses.dataclass(frozen=True)
class Event:
    """One event and the two before it; 0 where there is none."""

    items: list[int]
    bits: list[int]
    age: int
    gap: int
    hour: int
    user: int


def event(batch: UserBatch, user: int, at: int) -> Event:
    length = int(batch.lengths[user])

    def column(values: np.ndarray[Any, Any], k: int) -> int:
        return int(values[user, at + k]) if at + k < length else 0

    age_ms = int(batch.ages_ms[user, at])
    gap_ms = max(column(batch.ages_ms, 1) - age_ms, 0)
    hour = int((float(batch.hour[user]) - age_ms / 3_600_000) % 24)
    bits = [column(batch.types, k) for k in range(3)]
    items = [column(batch.items, k) for k in range(3)]
    return Event(items, bits, steps(age_ms), steps(gap_ms), hour, int(batch.users[user]))


def expected_event(e: Event) -> list[int]:
    (item, before, _), (now, last, third) = e.items, e.bits
    pair = mixed(mixed(item) ^ before)
    return [
        now << 16 | e.age,
        mixed(item) ^ now << 16,
        now << 16 | last,
        mixed(item),
        mixed(item) ^ e.age,
        pair,
        now << 16 | e.gap,
        now << 16 | e.hour,
        now << 32 | last << 16 | third,
        mixed(e.user) ^ now << 16,
        mixed(mixed(e.user) ^ item),
        now << 16 | third,
        pair ^ now << 16,
    ]


def expected_type(e: Event) -> list[int]:
    item, now = e.items[0], e.bits[0]
    return [
        item,
        mixed(item) ^ e.age,
        mixed(item) ^ now << 16,
        e.hour << 16 | e.age,
        mixed(mixed(e.user) ^ item),
    ]


@pytest.mark.parametrize("count", [1, 4, 9, 20])
def test_crosses_are_what_their_names_say(count: int) -> None:
    events, there = newest_events(BATCH, count)
    assert there.sum(axis=1).tolist() == np.minimum(BATCH.lengths, count).tolist()
    by_event = np.stack([cross(events) for cross in EVENT_CROSSES], axis=2)
    by_type = np.stack([cross(events) for cross in TYPE_CROSSES], axis=2)
    assert by_event.shape == (40, count, 13) and by_type.shape == (40, count, 5)
    for user, at in np.argwhere(there):
        one = event(BATCH, user, at)
        assert by_event[user, at].tolist() == expected_event(one)
        assert by_type[user, at].tolist() == expected_type(one)


def test_what_lies_behind_the_length_is_not_read() -> None:
    behind = np.arange(9) >= BATCH.lengths[:, None]
    dirty = dataclasses.replace(
        BATCH,
        items=np.where(behind, np.uint64(99), BATCH.items),
        types=np.where(behind, np.uint16(31), BATCH.types),
        ages_ms=np.where(behind, 10**9, BATCH.ages_ms),
    )
    (clean, there), (got, _) = (newest_events(each, 9) for each in (BATCH, dirty))
    for cross in (*EVENT_CROSSES, *TYPE_CROSSES):
        np.testing.assert_array_equal(cross(got)[there], cross(clean)[there])


def test_user_columns_say_who_when_and_how_much() -> None:
    columns = user_columns(BATCH, 4)
    known = BATCH.lengths > 0
    assert [there.sum(axis=1)[known].tolist() for _, there in columns] == [
        [entries] * int(known.sum()) for entries in (1, 1, 4, 1)
    ]
    assert not any(there[~known].any() for _, there in columns)
    who, hour, counts, both = (values for values, _ in columns)
    np.testing.assert_array_equal(who[:, 0], BATCH.users)
    np.testing.assert_array_equal(hour[:, 0], np.floor(BATCH.hour))
    assert (both[:, 0] ^ hour[:, 0]).tolist() == [mixed(int(user)) for user in BATCH.users]
    for t in range(4):
        np.testing.assert_array_equal(counts[:, t] >> np.uint64(32), t)
        got = (counts[:, t] & np.uint64(2**32 - 1)).astype(float)
        np.testing.assert_array_equal(got, np.floor(2 * np.log2(1.0 + BATCH.counts[:, t])))


def test_padding_cuts_and_fills() -> None:
    columns = np.arange(6).reshape(2, 3)
    assert padded(columns, 2).tolist() == [[0, 1], [3, 4]]
    assert padded(columns, 5).tolist() == [[0, 1, 2, 0, 0], [3, 4, 5, 0, 0]]
