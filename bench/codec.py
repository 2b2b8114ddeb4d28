"""Request bytes to arrays and back: the codec against orjson and numpy on the same bytes."""

from collections.abc import Iterator

import numpy as np
import orjson

from predawn.bench.bodies import rank_body
from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.csrc import _codec, _core

_ITEMS_LIMIT = 10_000


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """decode_rank and encode_reply for 8, 100 and 1,000 items; concat of 16 requests."""
    sizes = (8, 100) if smoke else (8, 100, 1000)
    cases = [case for n in sizes for case in (_decode(n), _decode_strings(n), _encode(n))]
    return measure(mark, [*cases, *_concat(16, sizes[-1])], effort)


def _decode(n: int) -> Case:
    body = rank_body(n)

    def own() -> object:
        return _codec.decode_rank(body, (), _ITEMS_LIMIT).item_hashes

    def peer() -> object:
        return np.array(orjson.loads(body)["items"], dtype=np.uint64)

    return _case(f"decode {n} integer items", own, "orjson + numpy.array", peer, body)


def _decode_strings(n: int) -> Case:
    items = [f"item-{i}" for i in orjson.loads(rank_body(n))["items"]]
    body = orjson.dumps({"user": "u-123456", "items": items})

    def own() -> object:
        return _codec.decode_rank(body, (), _ITEMS_LIMIT).item_hashes

    def peer() -> object:
        hashes = [_core.stable_hash(item.encode()) for item in orjson.loads(body)["items"]]
        return np.array(hashes, dtype=np.uint64)

    return _case(f"decode {n} string items", own, "orjson + hash loop", peer, body)


def _case(name: str, own: object, peer_name: str, peer: object, payload: bytes) -> Case:
    """limit: one copy of the payload, which any way has to read once."""
    assert callable(own) and callable(peer)
    return Case(
        name,
        Subject("predawn", own),
        peers=(Subject(peer_name, peer),),
        limit=Subject("memcpy", lambda: bytearray(payload)),
        same=(peer_name,),
    )


def _encode(n: int) -> Case:
    request = _codec.decode_rank(rank_body(n), (), _ITEMS_LIMIT)
    ids = request.item_hashes
    scores = np.random.default_rng(8).random(n, np.float32)
    order = np.argsort(-scores, kind="stable").astype(np.int64)
    tail = b'"degraded":false}'

    def own() -> object:
        return request.encode_reply("main", order, scores, tail)

    def peer() -> object:
        best = zip(ids[order].tolist(), scores[order].tolist(), strict=True)
        items = [{"id": item, "score": score} for item, score in best]
        return orjson.dumps({"ranker": "main", "items": items, "degraded": False})

    reply = request.encode_reply("main", order, scores, tail)
    return Case(
        f"encode {n} scores",
        Subject("predawn", own),
        peers=(Subject("orjson", peer),),
        limit=Subject("memcpy", lambda: bytearray(reply)),
    )


def _concat(requests: int, n: int) -> Iterator[Case]:
    rng = np.random.default_rng(9)
    hashes = [rng.integers(0, 2**63, n, dtype=np.uint64) for _ in range(requests)]
    features = [rng.random((n, 4), np.float32) for _ in range(requests)]
    joined = np.concatenate(features)
    target = np.empty_like(joined)

    def own() -> object:
        return _codec.concat(hashes, features)[1]

    def peer() -> object:
        np.concatenate(hashes)
        np.cumsum([0, *(len(part) for part in hashes)], dtype=np.int64)
        return np.concatenate(features)

    yield Case(
        f"concat {requests} requests of {n} items",
        Subject("predawn", own),
        peers=(Subject("numpy.concatenate", peer),),
        limit=Subject("memcpy", lambda: np.copyto(target, joined)),
        same=("numpy.concatenate",),
    )
