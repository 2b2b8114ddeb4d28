"""Request bodies that suites share."""

from collections.abc import Sequence

import numpy as np
import orjson

_CATALOGUE = 10_000_000


def rank_body(n: int, user: int | str = 123_456, ranker: str = "main", seed: int = 7) -> bytes:
    """A /v1/rank body of n integer items, all of which come back ranked."""
    rng = np.random.default_rng(seed)
    stride = _CATALOGUE // n  # one item of each stride: all different
    items = (rng.integers(0, stride, n) + stride * rng.permutation(n)).tolist()
    return orjson.dumps({"user": user, "items": items, "ranker": ranker, "top_k": n})


def events_body(user: int | str, items: Sequence[int | str], kind: str, t_ms: int) -> bytes:
    """A /v1/events body: `user` was shown, or clicked, ... `items` at `t_ms`."""
    events = [{"user": user, "item": item, "type": kind, "t_ms": t_ms} for item in items]
    return orjson.dumps({"events": events})
