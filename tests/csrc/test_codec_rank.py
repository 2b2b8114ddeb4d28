"""The codec's rank half against its naive twin, and every error with its field and reason."""

import pickle
from typing import Any

import codec_twin
import pytest
from codec_cases import FEATURES, rank_documents, resident_bytes, written
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.bench.fuzz_bodies import damaged
from predawn.csrc import _codec, _core

LIMIT = 12
SEEDS = [
    b'{"user":1,"items":[1,2,3]}',
    b'{"user":18446744073709551615,"items":[0,18446744073709551615],"top_k":1,"explain":true}',
    b'{"user":"u\\u00e9\\ud83d\\ude00","items":["a","b\\n","\xc3\xa9"],"ranker":"ctr"}',
    b'{"items":[{"id":"x","features":{"price":1.5,"age":-2e-3}},"y"],"user":"u","timeout_ms":50}',
    b'{ "user" : 7 , "items" : [ { "features" : { "age" : 0 } , "id" : 9 } ] , "explain":false }',
]


def same_as_twin(body: bytes) -> bool:
    """Both refuse (False), or both accept and agree in every member (True)."""
    try:
        twin = codec_twin.decode_rank(body, FEATURES, LIMIT)
    except codec_twin.Refused:
        with pytest.raises(_codec.CodecError) as refused:
            _codec.decode_rank(body, FEATURES, LIMIT)
        assert refused.value.reason
        return False
    made = _codec.decode_rank(body, FEATURES, LIMIT)
    strings = isinstance(twin.items[0], str)
    hashes = [_core.stable_hash(i.encode()) if isinstance(i, str) else i for i in twin.items]
    assert (made.user, type(made.user)) == (twin.user, type(twin.user))
    assert (made.ranker, made.top_k, made.explain) == (twin.ranker, twin.top_k, twin.explain)
    assert made.timeout_ms == twin.timeout_ms
    assert (made.count, made.items_are_strings) == (len(twin.items), strings)
    assert made.item_hashes.tolist() == hashes
    assert made.item_features.shape == (len(hashes), len(FEATURES))
    assert made.item_features.tolist() == twin.features
    return True


@given(rank_documents, st.integers(0, 3))
@settings(max_examples=400, deadline=None)
def test_valid_bodies_decode_as_the_twin_says(document: Any, style: int) -> None:
    assert same_as_twin(written(document, style))


def test_twenty_thousand_damaged_bodies_end_as_the_twin_says_in_bounded_memory() -> None:
    for body in damaged(SEEDS, 500, seed=1):
        same_as_twin(body)
    before = resident_bytes()
    accepted = sum(same_as_twin(body) for body in damaged(SEEDS, 20_000, seed=2))
    assert 100 < accepted < 19_900  # both outcomes are really exercised
    assert resident_bytes() - before < 32 * 2**20


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_as_value_end_as_the_twin_says(value: bytes) -> None:
    same_as_twin(value)
    same_as_twin(b'{"user":' + value + b',"items":[1]}')
    same_as_twin(b'{"user":1,"items":["' + value + b'"]}')


NUMBERS = (
    "0 -0 0.0 -0.0 1 01 1. .5 +1 1e5 1E+5 1e 1e+ 0x10 1_0 1e400 -1e400 1e-400 3.4028235e38 "
    "3.4028236e38 3.5e38 1e-46 0.000001e400 " + "9" * 400 + " 0." + "0" * 400 + "1 "
    "0." + "0" * 400 + "1e410 1e99999999999999999999 1e-99999999999999999999 NaN Infinity -"
).split()


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_follow_the_grammar_and_round_once(text: str) -> None:
    number = text.encode()
    same_as_twin(b'{"user":1,"items":[{"id":1,"features":{"age":' + number + b"}}]}")
    same_as_twin(b'{"items":[1],"user":' + number + b"}")


BAD: list[tuple[bytes, str, str]] = [
    (b"", "", "empty"),
    (b"[1]", "", "must be an object, got an array"),
    (b"{}", "user", "missing"),
    (b'{"user":1}', "items", "missing"),
    (b'{"user":1,"items":[]}', "items", "no items"),
    (b'{"user":1,"items":7}', "items", "must be an array, got 7"),
    (b'{"user":1,"itmes":[1]}', "itmes", "unknown member; did you mean 'items'?"),
    (b'{"user":1,"items":[1],"context":{}}', "context", "known: user, items"),
    (b'{"user":1,"user":1,"items":[1]}', "user", "comes twice"),
    (b'{"user":-1,"items":[1]}', "user", "must not be negative, got -1"),
    (b'{"user":1.0,"items":[1]}', "user", "must be an integer"),
    (b'{"user":1e3,"items":[1]}', "user", "got 1e3"),
    (b'{"user":18446744073709551616,"items":[1]}', "user", "larger than 18446744073709551615"),
    (b'{"user":null,"items":[1]}', "user", "must be an id"),
    (b'{"user":"","items":[1]}', "user", "must not be empty"),
    (b'{"user":"' + b"x" * 257 + b'","items":[1]}', "user", "longer than 256 bytes"),
    (b'{"user":"\xff","items":[1]}', "user", "UTF-8 (at byte 9)"),
    (b'{"user":"\\ud800","items":[1]}', "user", "escape (at byte 9)"),
    (b'{"user":"\\udc00\\ud800","items":[1]}', "user", "escape"),
    (b'{"user":"\x01","items":[1]}', "user", "control character"),
    (b'{"user":"\xed\xa0\x80","items":[1]}', "user", "UTF-8"),
    (b'{"user":"\xc0\xaf","items":[1]}', "user", "UTF-8"),
    (b'{"user":1,"items":[1,"a"]}', "items[1]", "one kind"),
    (b'{"user":1,"items":[5,6,5]}', "items[2]", "the same item as items[0]"),
    (b'{"user":1,"items":["ab","\\u0061b"]}', "items[1]", "the same item as items[0]"),
    (b'{"user":1,"items":[{"features":{}}]}', "items[0].id", "missing"),
    (b'{"user":1,"items":[{"id":1,"feature":{}}]}', "items[0].feature", "mean 'features'"),
    (b'{"user":1,"items":[{"id":1,"id":1}]}', "items[0].id", "comes twice"),
    (
        b'{"user":1,"items":[2,{"id":1,"features":{"prise":1}}]}',
        "items[1].features.prise",
        "did you mean 'price'?",
    ),
    (
        b'{"user":1,"items":[{"id":1,"features":{"age":1,"age":1}}]}',
        "items[0].features.age",
        "comes twice",
    ),
    (
        b'{"user":1,"items":[{"id":1,"features":{"age":NaN}}]}',
        "items[0].features.age",
        "NaN and Infinity are no numbers",
    ),
    (
        b'{"user":1,"items":[{"id":1,"features":{"age":1e39}}]}',
        "items[0].features.age",
        "too large for a 32-bit float, got 1e39",
    ),
    (
        b'{"user":1,"items":[{"id":1,"features":{"age":"x"}}]}',
        "items[0].features.age",
        'must be a number, got "x"',
    ),
    (b'{"user":1,"items":[1],"top_k":0}', "top_k", "at least 1"),
    (b'{"user":1,"items":[1],"top_k":1.5}', "top_k", "integer"),
    (b'{"user":1,"items":[1],"timeout_ms":0}', "timeout_ms", "more than 0"),
    (b'{"user":1,"items":[1],"timeout_ms":-3}', "timeout_ms", "more than 0"),
    (b'{"user":1,"items":[1],"explain":1}', "explain", "true or false, got 1"),
    (b'{"user":1,"items":[1],"ranker":["x"]}', "ranker", "must be a string, got an array"),
    (b'{"user":1,"items":[1]}{', "", "bytes after the end"),
    (b'{"user":1,"items":[1],}', "", "expected a member name"),
    (b'{"user":1,"items":[1,]}', "items[0]", "a comma before ']'"),
    (b"{" * 100_000, "", "expected a member name"),
    (b'{"user":' + b"[" * 100_000, "user", "must be an id"),
]


@pytest.mark.parametrize(("body", "field", "reason"), BAD)
def test_errors_name_field_and_reason(body: bytes, field: str, reason: str) -> None:
    with pytest.raises(_codec.CodecError) as refused:
        _codec.decode_rank(body, FEATURES, LIMIT)
    assert refused.value.field == field
    assert reason in refused.value.reason


def test_errors_pickle_with_their_field() -> None:
    error = pickle.loads(pickle.dumps(_codec.CodecError("items[3]", "no")))
    assert (error.field, error.reason, str(error)) == ("items[3]", "no", "items[3]: no")


@pytest.mark.parametrize("end", range(len(SEEDS[3])))
def test_every_prefix_of_a_body_is_refused(end: int) -> None:
    with pytest.raises(_codec.CodecError):
        _codec.decode_rank(SEEDS[3][:end], FEATURES, LIMIT)


@pytest.mark.parametrize("count", [11, 12, 13])
def test_more_items_than_the_limit_are_refused(count: int) -> None:
    assert same_as_twin(written({"user": 1, "items": list(range(count))}, 0)) == (count <= LIMIT)


@pytest.mark.parametrize("strings", [False, True])
def test_long_bodies_without_the_gil_decode_as_short_ones(strings: bool) -> None:
    items: list[Any] = [f"item-{i}" if strings else i << 40 for i in range(10_000)]
    body = written({"user": 1, "items": items}, 0)
    assert len(body) > 65_536
    made = _codec.decode_rank(body, (), 10_000)
    expected = [_core.stable_hash(i.encode()) if isinstance(i, str) else i for i in items]
    assert made.item_hashes.tolist() == expected
    items[9_999] = items[5]
    with pytest.raises(_codec.CodecError, match=r"items\[9999\]: the same item as items\[5\]"):
        _codec.decode_rank(written({"user": 1, "items": items}, 0), (), 10_000)


def test_bodies_are_made_by_decoding_only() -> None:
    with pytest.raises(TypeError):
        _codec.RankBody()
