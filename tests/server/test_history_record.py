"""The record of one user against a twin that keeps a list of all events."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.csrc._core import stable_hash
from predawn.server.errors import BadRequest, UnknownName
from predawn.server.history_record import Events, RecordLayout, user_hash
from predawn.server.request import UserBatch, UserId

TYPES = ("shown", "clicked", "liked")
ATTRIBUTES = ("age", "score")

Push = tuple[int, int, int]  # item, t_ms, types


@dataclass
class Twin:
    """Everything that happened to one user, in order of arrival."""

    pushes: list[Push] = field(default_factory=list[Push])
    attributes: dict[str, float] = field(default_factory=dict[str, float])

    def newest(self, length: int) -> list[Push]:
        """Newest first; of equal times the later arrival first."""
        order = sorted(range(len(self.pushes)), key=lambda i: (self.pushes[i][1], i), reverse=True)
        return [self.pushes[i] for i in order[:length]]


def twin_batch(twin: Twin, length: int) -> dict[str, Sequence[float]]:
    """The features of one user, the slow way."""
    kept = twin.newest(length)
    pad = [0] * (length - len(kept))
    newest = kept[0][1] if kept else 0
    return {
        "items": [p[0] for p in kept] + pad,
        "types": [p[2] for p in kept] + pad,
        "ages_ms": [newest - p[1] for p in kept] + pad,
        "counts": [sum(p[2] >> b & 1 for p in twin.pushes) for b in range(len(TYPES))],
        "attributes": [twin.attributes.get(name, 0.0) for name in ATTRIBUTES],
        "hour": [float(np.float32(newest % 86_400_000 / 3_600_000))],
    }


def assert_row(batch: UserBatch, row: int, twin: Twin, length: int) -> None:
    """Row `row` of the batch is what the twin says."""
    for name, expected in twin_batch(twin, length).items():
        found = np.atleast_1d(getattr(batch, name)[row]).tolist()
        assert found == list(expected), name
    assert batch.lengths[row] == min(len(twin.pushes), length)


pushes = st.tuples(
    st.integers(0, 2**64 - 1), st.integers(0, 12) | st.integers(0, 2**45), st.integers(0, 7)
)


@given(st.lists(pushes, max_size=40), st.integers(1, 6))
def test_a_record_keeps_the_newest_events_and_counts_them_all(
    events: list[Push], length: int
) -> None:
    layout = RecordLayout(TYPES, ATTRIBUTES, length)
    record, twin = bytearray(layout.nothing), Twin()
    for push in events:
        layout.push(record, *push)
        twin.pushes.append(push)
        assert len(record) == layout.size == layout.dtype.itemsize
    assert_row(layout.batch([7], bytes(record)), 0, twin, length)


@given(st.lists(pushes, max_size=20), st.integers(1, 6), st.integers(1, 9))
def test_a_changed_length_keeps_what_fits_and_goes_on(
    events: list[Push], before: int, after: int
) -> None:
    old, new = RecordLayout(TYPES, ATTRIBUTES, before), RecordLayout(TYPES, ATTRIBUTES, after)
    record = bytearray(old.nothing)
    twin = Twin()
    for push in events:
        old.push(record, *push)
        twin.pushes.append(push)
    moved = bytearray(new.resized(bytes(record)))
    kept = twin.newest(before)[:after]
    batch = new.batch([1], bytes(moved))
    assert batch.items[0, : len(kept)].tolist() == [p[0] for p in kept]
    assert batch.lengths[0] == len(kept)
    assert not batch.items[0, len(kept) :].any()
    new.push(moved, 5, 2**46, 1)
    assert new.batch([1], bytes(moved)).items[0, 0] == 5


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2, "1", "é"]), pushes), max_size=30),
    st.lists(
        st.tuples(
            st.sampled_from([1, 2, "1", "é"]),
            st.dictionaries(st.sampled_from(ATTRIBUTES), st.floats(-9, 9, width=32)),
        ),
        max_size=5,
    ),
)
def test_a_batch_is_one_row_per_user(
    events: list[tuple[UserId, Push]], attributes: list[tuple[UserId, dict[str, float]]]
) -> None:
    layout = RecordLayout(TYPES, ATTRIBUTES, 4)
    users: list[UserId] = [1, 2, "1", "é"]
    records = {user: bytearray(layout.nothing) for user in users}
    twins = {user: Twin() for user in users}
    for user, push in events:
        twins[user].pushes.append(push)
    for user, values in attributes:
        twins[user].attributes |= values
    layout.apply(columns(events, attributes), records)
    batch = layout.batch(users, b"".join(records.values()))
    assert batch.users.tolist() == [1, 2, stable_hash(b"1"), stable_hash("é".encode())]
    for row, user in enumerate(users):
        assert_row(batch, row, twins[user], 4)


def columns(
    events: list[tuple[UserId, Push]],
    attributes: list[tuple[UserId, dict[str, float]]] | None = None,
) -> Events:
    """Rows to columns."""
    return Events(
        users=[user for user, _ in events],
        items=np.array([p[0] for _, p in events], np.uint64),
        types=np.array([p[2] for _, p in events], np.uint16),
        t_ms=np.array([p[1] for _, p in events], np.int64),
        attributes=attributes or [],
    )


def test_counts_saturate() -> None:
    layout = RecordLayout(TYPES, (), 1)
    record = bytearray(layout.nothing)
    row = np.frombuffer(record, dtype=layout.dtype).copy()
    row["counts"][0, 1] = 2**32 - 2
    record = bytearray(row.tobytes())
    for _ in range(3):
        layout.push(record, 1, 1, 0b11)
    counts = np.frombuffer(bytes(record), dtype=layout.dtype)["counts"][0]
    assert counts[:3].tolist() == [3, 2**32 - 1, 0]


def test_an_absent_attribute_is_kept_apart_from_zero_and_can_be_forgotten() -> None:
    layout = RecordLayout(TYPES, ATTRIBUTES, 1)
    record = bytearray(layout.nothing)
    layout.set_attribute(record, "age", 0.0)
    stored = np.frombuffer(bytes(record), dtype=layout.dtype)["attributes"][0]
    assert stored[0] == 0.0 and math.isnan(stored[1])
    layout.set_attribute(record, "age", math.nan)
    assert np.isnan(np.frombuffer(bytes(record), dtype=layout.dtype)["attributes"][0]).all()


def test_batches_of_nobody_and_without_attributes_have_their_shapes() -> None:
    layout = RecordLayout(TYPES, (), 3)
    batch = layout.batch([], b"")
    assert batch.items.shape == batch.ages_ms.shape == (0, 3)
    assert layout.batch([1], layout.nothing).attributes.shape == (1, 0)


def test_integers_and_strings_are_different_users_to_a_model() -> None:
    assert user_hash(1) == 1 != user_hash("1")


@pytest.mark.parametrize(
    ("events", "field"),
    [
        (columns([(1, (1, 1, 1)), ("x" * 257, (1, 1, 1))]), "events[1].user"),
        (columns([(1, (1, 1, 1)), ("é" * 129, (1, 1, 1))]), "events[1].user"),
        (columns([(1, (1, 1, 8))]), "events[0].types"),
        (columns([], [("x" * 257, {})]), "users[0].id"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(events: Events, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        RecordLayout(TYPES, ATTRIBUTES, 4).check(events)
    assert caught.value.field == field


def test_an_unknown_attribute_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'score'"):
        RecordLayout(TYPES, ATTRIBUTES, 4).check(columns([], [(1, {"scor": 1.0})]))


def test_the_longest_id_is_accepted() -> None:
    RecordLayout(TYPES, ATTRIBUTES, 4).check(columns([("é" * 128, (1, 1, 1))]))


def test_a_layout_needs_types_and_room() -> None:
    with pytest.raises(ValueError, match="16 types"):
        RecordLayout([f"t{i}" for i in range(17)], (), 1)
    with pytest.raises(ValueError, match="length"):
        RecordLayout(TYPES, (), 0)
