"""The codec's events half against its naive twin, and every error with its field and reason."""

from typing import Any

import codec_twin
import pytest
from codec_cases import ATTRIBUTES, TYPES, events_documents, resident_bytes, written
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.bench.fuzz_bodies import damaged
from predawn.csrc import _codec, _core

LIMIT = 8
SEEDS = [
    b'{"events":[{"user":1,"item":2,"type":"shown"}]}',
    b'{"events":[{"user":"u","item":"\xc3\xa9","types":["shown","liked"],"t_ms":1700000000000}]}',
    b'{"users":[{"id":1,"attributes":{"income":-1.5e3}},{"id":"1","attributes":{}}]}',
    b'{"users":[],"events":[{"item":5,"t_ms":0,"user":3,"types":["clicked"]},'
    b'{"user":4,"item":"a\\n","type":"liked"}]}',
]


def same_as_twin(body: bytes) -> bool:
    """Both refuse (False), or both accept and agree in every column (True)."""
    try:
        twin = codec_twin.decode_events(body, TYPES, ATTRIBUTES, LIMIT)
    except codec_twin.Refused:
        with pytest.raises(_codec.CodecError) as refused:
            _codec.decode_events(body, TYPES, ATTRIBUTES, LIMIT)
        assert refused.value.reason
        return False
    made = _codec.decode_events(body, TYPES, ATTRIBUTES, LIMIT)
    hashes = [_core.stable_hash(i.encode()) if isinstance(i, str) else i for i in twin.items]
    assert made.count == len(twin.users)
    assert [(u, type(u)) for u in made.users] == [(u, type(u)) for u in twin.users]
    assert made.items.tolist() == hashes
    assert made.t_ms.tolist() == twin.t_ms
    assert made.types.tolist() == twin.types
    assert made.attributes == twin.attributes
    return True


@given(events_documents, st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_valid_bodies_decode_as_the_twin_says(document: Any, style: int) -> None:
    assert same_as_twin(written(document, style))


def test_twenty_thousand_damaged_bodies_end_as_the_twin_says_in_bounded_memory() -> None:
    for body in damaged(SEEDS, 500, seed=1):
        same_as_twin(body)
    before = resident_bytes()
    accepted = sum(same_as_twin(body) for body in damaged(SEEDS, 20_000, seed=2))
    assert 100 < accepted < 19_900  # both outcomes are really exercised
    assert resident_bytes() - before < 32 * 2**20


BAD: list[tuple[bytes, str, str]] = [
    (b"{}", "events", "nothing to record"),
    (b'{"events":[],"users":[]}', "events", "nothing to record"),
    (b'{"event":[]}', "event", "did you mean 'events'?"),
    (b'{"events":[1]}', "events[0]", "must be an object, got 1"),
    (b'{"events":[{"item":1,"type":"shown"}]}', "events[0].user", "missing"),
    (b'{"events":[{"user":1,"type":"shown"}]}', "events[0].item", "missing"),
    (b'{"events":[{"user":1,"item":1}]}', "events[0].type", "missing (or 'types')"),
    (
        b'{"events":[{"user":1,"item":1,"type":"show"}]}',
        "events[0].type",
        "unknown event type 'show'; did you mean 'shown'?",
    ),
    (b'{"events":[{"user":1,"item":1,"types":[]}]}', "events[0].types", "no types"),
    (
        b'{"events":[{"user":1,"item":1,"types":["shown","shown"]}]}',
        "events[0].types",
        "names a type twice",
    ),
    (
        b'{"events":[{"user":1,"item":1,"types":["shown"],"type":"liked"}]}',
        "events[0].types",
        "must not come beside 'type'",
    ),
    (
        b'{"events":[{"user":1,"item":1,"type":"shown","t_ms":-4}]}',
        "events[0].t_ms",
        "must not be negative, got -4",
    ),
    (
        b'{"events":[{"user":1,"item":1,"type":"shown","t_ms":9223372036854775808}]}',
        "events[0].t_ms",
        "less than 2^63",
    ),
    (
        b'{"events":[{"user":1,"item":1,"type":"shown"},{"user":1,"item":true,"type":"liked"}]}',
        "events[1].item",
        "must be an id",
    ),
    (b'{"users":[{"id":1}]}', "users[0].attributes", "missing"),
    (b'{"users":[{"attributes":{}}]}', "users[0].id", "missing"),
    (
        b'{"users":[{"id":1,"attributes":{"incme":1}}]}',
        "users[0].attributes.incme",
        "did you mean 'income'?",
    ),
    (
        b'{"users":[{"id":1,"attributes":{"income":1e40}}]}',
        "users[0].attributes.income",
        "too large for a 32-bit float",
    ),
    (
        b'{"users":[{"id":7,"attributes":{}},{"id":7,"attributes":{}}]}',
        "users[1]",
        "the same user as users[0]",
    ),
]


@pytest.mark.parametrize(("body", "field", "reason"), BAD)
def test_errors_name_field_and_reason(body: bytes, field: str, reason: str) -> None:
    with pytest.raises(_codec.CodecError) as refused:
        _codec.decode_events(body, TYPES, ATTRIBUTES, LIMIT)
    assert refused.value.field == field
    assert reason in refused.value.reason


@pytest.mark.parametrize("member", ["events", "users"])
def test_more_rows_than_the_limit_are_refused(member: str) -> None:
    rows = {
        "events": [{"user": 1, "item": i, "type": "shown"} for i in range(LIMIT + 1)],
        "users": [{"id": i, "attributes": {}} for i in range(LIMIT + 1)],
    }[member]
    assert same_as_twin(written({member: rows[:LIMIT]}, 0))
    with pytest.raises(_codec.CodecError, match="more than 8") as refused:
        _codec.decode_events(written({member: rows}, 0), TYPES, ATTRIBUTES, LIMIT)
    assert refused.value.field == member


def test_more_types_than_bits_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        _codec.decode_events(b"{}", [f"t{i}" for i in range(17)], (), LIMIT)
