"""What is noted of every replayed request, in arrays."""

import copy

import numpy as np
from numpy.typing import NDArray

from predawn.server.request import I64, U8, RankReply, Source


class Recording:
    """source: uint8 [n] `Source`; age_ms: int64 [n], -1 where it has none; failed: bool [n], not
    fresh because a compute failed, came late or was refused; took_ns: int64 [n], virtual;
    rows: float16 [n, dim] as served; scores: float32 [candidates], of the ranker's first task."""

    def __init__(self, requests: int, candidates: int, dim: int) -> None:
        self.source: U8 = np.full(requests, Source.DEFAULT, dtype=np.uint8)
        self.age_ms: I64 = np.full(requests, -1, dtype=np.int64)
        self.failed = np.zeros(requests, dtype=np.bool_)
        self.took_ns: I64 = np.zeros(requests, dtype=np.int64)
        self.rows: NDArray[np.float16] = np.zeros((requests, dim), dtype=np.float16)
        self.scores: NDArray[np.float32] = np.zeros(candidates, dtype=np.float32)

    def note(self, request: int, reply: RankReply, model: str, start: int, took_ns: int) -> None:
        """Takes down one reply; `start` is the first of its candidates."""
        served = reply.users[model]
        self.source[request] = served.source
        self.age_ms[request] = served.age_ms
        self.failed[request] = bool(served.reason)
        self.took_ns[request] = took_ns
        self.rows[request] = served.row
        self.scores[start : start + len(reply.scores)] = reply.scores

    def since(self, first: int) -> "Recording":
        """The part from request `first` on; `scores` stays whole."""
        part = copy.copy(self)
        for name in ("source", "age_ms", "failed", "took_ns", "rows"):
            setattr(part, name, getattr(self, name)[first:])
        return part
