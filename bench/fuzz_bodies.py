"""Bodies that try to break the server: valid ones, damaged in seeded ways.

The same seed gives the same bodies, so whatever one of them finds can be found again.
"""

import random
from collections.abc import Callable, Iterator, Sequence

_TOKENS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"1e5", b"1e999", b"1.5", b"null",
    b"true", b"NaN", b"\\u0000", b"\\ud800", b"\xff", b"\xc3\xa9", b" ", b"\n", b'"id"', b'"user"',
    b'"items":', b'{"id":', b"18446744073709551615", b"18446744073709551616", b"-0", b"00", b"\x00",
)  # fmt: skip


def _flip(body: bytearray, rng: random.Random) -> None:
    body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)


def _cut(body: bytearray, rng: random.Random) -> None:
    del body[rng.randrange(len(body)) :]


def _remove(body: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(body))
    del body[start : start + rng.randrange(1, 8)]


def _repeat(body: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(body))
    body[start:start] = body[start : start + rng.randrange(1, 30)]


def _insert(body: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(body) + 1)
    body[start:start] = rng.choice(_TOKENS)


def _replace(body: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(body))
    body[start : start + rng.randrange(1, 6)] = rng.choice(_TOKENS)


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _cut, _remove, _repeat, _insert, _replace,
)  # fmt: skip


def damaged(bodies: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` bodies with one to three damages each; now and then two halves are spliced."""
    rng = random.Random(seed)
    for _ in range(count):
        body = bytearray(rng.choice(bodies))
        if rng.random() < 0.1:
            other = rng.choice(bodies)
            body[rng.randrange(len(body)) :] = other[rng.randrange(len(other)) :]
        for _ in range(rng.choice((1, 1, 2, 3))):
            if body:
                rng.choice(_DAMAGES)(body, rng)
        yield bytes(body)


RANK = (
    b'{"user":1,"items":[1,2,3]}',
    b'{"user":18446744073709551615,"items":[0,18446744073709551615],"top_k":1,"explain":true}',
    b'{"user":"u\\u00e9\\ud83d\\ude00","items":["a","b\\n","\xc3\xa9"],"timeout_ms":500}',
    b'{"items":[{"id":"x","features":{}},"y"],"user":"u","explain":false}',
)
EVENTS = (
    b'{"events":[{"user":1,"item":2,"type":"shown"}]}',
    b'{"events":[{"user":"u","item":"\xc3\xa9","types":["shown","clicked"],"t_ms":1700000000}]}',
    b'{"users":[{"id":1,"attributes":{}}],"events":[{"item":5,"user":3,"types":["clicked"]}]}',
)
USERS = (b'{"users":[1,2,"a"]}', b'{"users":["\\u0041"]}')

_SHARES = (("/v1/rank", RANK, 6), ("/v1/events", EVENTS, 2), ("/v1/hint", USERS, 1),
           ("/v1/invalidate", USERS, 1))  # fmt: skip


def requests(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` (path, damaged body): six in ten to rank, the others to the other POST routes."""
    rng = random.Random(seed)
    streams = {path: damaged(bodies, count, rng.randrange(2**32)) for path, bodies, _ in _SHARES}
    paths = [path for path, _, share in _SHARES for _ in range(share)]
    for _ in range(count):
        path = rng.choice(paths)
        yield path, next(streams[path])
