"""Replies, pair keys and jagged batches of the codec."""

import json
from typing import Any

import numpy as np
import pytest
from codec_cases import integers, strings, written
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.csrc import _codec, _core
from predawn.server.request import F32, I64

KEY = bytes(range(16))
scores32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def decode(items: list[Any], user: Any = 1) -> _codec.RankBody:
    return _codec.decode_rank(written({"user": user, "items": items}, 0), (), 10_000)


def order_of(*positions: int) -> I64:
    return np.array(positions, dtype=np.int64)


def f32(*values: float) -> F32:
    return np.array(values, dtype=np.float32)


@given(st.lists(scores32, min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_scores_read_back_as_the_same_float32(values: list[float], rng: Any) -> None:
    order = list(range(len(values)))
    rng.shuffle(order)
    body = decode([f"i{i}" for i in range(len(values))])
    reply = json.loads(body.encode_reply("ctr", order_of(*order), f32(*values), b'"took_us":5'))
    assert [item["id"] for item in reply["items"]] == [f"i{i}" for i in order]
    back = np.array([item["score"] for item in reply["items"]], dtype=np.float32)
    assert back.tobytes() == f32(*values)[order].tobytes()
    assert (reply["ranker"], reply["took_us"]) == ("ctr", 5)


@given(st.lists(strings, min_size=1, max_size=5, unique=True) | st.lists(integers, min_size=1))
@settings(max_examples=200, deadline=None)
def test_ids_go_back_as_they_came(items: list[Any]) -> None:
    items = list(dict.fromkeys(items))
    made = decode(items)
    order = np.arange(len(items), dtype=np.int64)
    reply = json.loads(made.encode_reply("r", order, np.zeros(len(items), np.float32), b""))
    assert [item["id"] for item in reply["items"]] == items


def test_scores_are_the_shortest_text() -> None:
    made = decode([1, 2, 3])
    reply = made.encode_reply("r", order_of(2, 0, 1), f32(0.1, 1.0, 1e-9), b"")
    assert reply == (
        b'{"ranker":"r","items":[{"id":3,"score":1e-09},{"id":1,"score":0.1},{"id":2,"score":1}]}'
    )


def test_a_reply_without_items_is_still_json() -> None:
    assert decode([1]).encode_reply("r", order_of(), f32(0), b'"a":1') == (
        b'{"ranker":"r","items":[],"a":1}'
    )


@given(strings)
@settings(max_examples=100, deadline=None)
def test_names_are_escaped(name: str) -> None:
    assert json.loads(decode([1]).encode_reply(name, order_of(), f32(0), b""))["ranker"] == name


@pytest.mark.parametrize("order", [[2], [-1], [0, 5]])
def test_positions_out_of_range_are_errors(order: list[int]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        decode([1, 2]).encode_reply("r", order_of(*order), f32(0, 0), b"")


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_json_cannot_say_are_errors(score: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        decode([1]).encode_reply("r", order_of(0), f32(score), b"")


def test_as_many_scores_as_candidates_are_needed() -> None:
    with pytest.raises(ValueError, match="3 scores for 2 candidates"):
        decode([1, 2]).encode_reply("r", order_of(0), f32(1, 2, 3), b"")


def test_pairs_of_integers_are_their_own_keys() -> None:
    made = decode([5, 2**64 - 1], user=7)
    assert made.pair_keys(KEY).tolist() == [[7, 5], [7, 2**64 - 1]]


@given(integers | strings, st.lists(strings, min_size=1, max_size=5, unique=True))
@settings(max_examples=200, deadline=None)
def test_other_pairs_are_keyed_hashes_of_kind_length_and_text(user: Any, items: list[str]) -> None:
    def part(value: Any) -> tuple[bytes, bytes]:
        return (
            (b"s", value.encode())
            if isinstance(value, str)
            else (b"i", value.to_bytes(8, "little"))
        )

    kind, text = part(user)
    prefix = kind + len(text).to_bytes(2, "little") + text
    expected = [list(_core.siphash128(KEY, prefix + b"s" + i.encode())) for i in items]
    assert decode(items, user).pair_keys(KEY).tolist() == expected


def test_pairs_that_read_alike_have_different_keys() -> None:
    bodies = [decode(["bc"], "a"), decode(["c"], "ab"), decode(["1"], 1), decode([1], "1")]
    keys = {tuple(body.pair_keys(KEY)[0].tolist()) for body in bodies}
    assert len(keys) == len(bodies)


def test_a_pair_key_needs_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes, got 3"):
        decode([1]).pair_keys(b"abc")


def test_concat_lays_requests_end_to_end() -> None:
    first, second = decode([1, 2]), decode([9])
    hashes, features, offsets = _codec.concat(
        [first.item_hashes, second.item_hashes],
        [np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)],
    )
    assert hashes.tolist() == [1, 2, 9]
    assert features.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert offsets.tolist() == [0, 2, 3]
    assert [str(a.dtype) for a in (hashes, features, offsets)] == ["uint64", "float32", "int64"]


def test_concat_refuses_rows_that_do_not_match() -> None:
    ids = decode([1, 2]).item_hashes
    with pytest.raises(ValueError, match="request 0: 2 hashes, 1 rows"):
        _codec.concat([ids], [np.zeros((1, 2), np.float32)])
    with pytest.raises(ValueError, match="got 0 and 0"):
        _codec.concat([], [])
