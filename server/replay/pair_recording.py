"""What is noted of every replayed request's pairs, in arrays, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.server.replay.pair_asks import Asks
from predawn.server.request import I64, U8, PairRows, Source, UserId, UserItems
from predawn.server.traces import Trace


class PairRecording:
    """sources: uint8 [rows], `Source`; ages_ms: int64 [rows], -1: none; rows: float16 [rows, dim]
    as served."""

    def __init__(self, candidates: int, dim: int) -> None:
        self.sources: U8 = np.full(candidates, Source.DEFAULT, dtype=np.uint8)
        self.ages_ms: I64 = np.full(candidates, -1, dtype=np.int64)
        self.rows: NDArray[np.float16] = np.zeros((candidates, dim), dtype=np.float16)

    def note(self, start: int, served: PairRows) -> None:
        """Takes down the pairs of one reply; `start` is the first of its candidates."""
        rows = slice(start, start + len(served.sources))
        self.sources[rows] = served.sources
        self.ages_ms[rows] = served.ages_ms
        self.rows[rows] = served.rows


@dataclass(frozen=True, slots=True)
class Uses:
    """Of the pairs computed from the counted time on. computed: how many; used: of how many a
    request read the embedding; lead_ms: int64 [used], from landing to the first read."""

    computed: int
    used: int
    lead_ms: I64


def uses_of(
    trace: Trace,
    asks: Asks,
    recording: PairRecording,
    done: Sequence[tuple[int, Sequence[UserItems]]],
) -> Uses:
    """Which of the computed pairs of `done` were read: a direct read of age a is of the embedding
    that landed a before it."""
    since_ms = int(asks.t_ms[asks.first])
    numbers: dict[UserId, int] = {user: at for at, user in enumerate(trace.user_indices()[0])}
    distinct = np.unique(trace.items)
    landed: list[tuple[int, int, I64]] = [
        (t_ms, numbers[each.user], np.searchsorted(distinct, each.item_hashes).astype(np.int64))
        for t_ms, wanted in done
        if t_ms >= since_ms
        for each in wanted
    ]
    computed = sum(len(items) for _, _, items in landed)
    made = {
        (t_ms, user * asks.items + item) for t_ms, user, items in landed for item in items.tolist()
    }
    direct = np.flatnonzero(recording.sources == Source.DIRECT)
    read_ms, ages = asks.row_t_ms[direct], recording.ages_ms[direct]
    first: dict[tuple[int, int], int] = {}
    for when, age, pair in zip(
        read_ms.tolist(), ages.tolist(), asks.pair[direct].tolist(), strict=True
    ):
        key = (when - age, pair)
        if key in made and key not in first:
            first[key] = age
    return Uses(computed, len(first), np.array(list(first.values()), dtype=np.int64))
