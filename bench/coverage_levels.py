"""What every candidate would be served if its own embedding were absent: one level of fills at a
time, from a replay of the real store.

Invariant: a fill is that of the very moment of the request, made of what had landed by then. A
quarter of all pairs is held out: neighbours never see their embeddings, so that what neighbours say
of one of these is what they would say were it absent.
"""

from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from predawn.server.batcher_share import ShareAccount
from predawn.server.clock import Clock
from predawn.server.metrics import Metrics
from predawn.server.pair_neighbours import NeighbourKind, Neighbours
from predawn.server.replay import PairOptions, ReplayOptions
from predawn.server.replay.embeddings import embeddings_of
from predawn.server.replay.pair_embeddings import PairEmbeddings, TrueProducts
from predawn.server.replay.pair_loss import Served
from predawn.server.replay.pair_recording import PairRecording
from predawn.server.replay.pair_world import PAIRS, PairWorld, neighbour_limits
from predawn.server.replay.world import MODEL, World
from predawn.server.request import F32, U64, PairRows, RankReply, Source, UserId
from predawn.server.simloop import SimLoop, simulate
from predawn.server.traces import Trace

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class Level:
    """fills: the one level; neighbours, recent_length: as in `PairOptions`."""

    name: str
    fills: tuple[str, ...]
    neighbours: str = "similar"
    recent_length: int = 0


LEVELS = (
    Level("user_mean", ("user_mean",)),
    Level("recent", ("recent",), recent_length=16),
    Level("neighbour, clusters", ("neighbour",), neighbours="clusters"),
    Level("neighbour, similar", ("neighbour",)),
)


@dataclass(frozen=True, slots=True)
class Filled:
    """absent: of all rows, from the level or the default; served: as the replay really served
    them."""

    absent: Served
    served: Served


def filled(trace: Trace, level: Level, budget: float) -> Filled:
    """Replays `trace`, which has its truth, and reads every candidate as if it were absent."""
    truth = trace.truth
    assert truth is not None
    options = PairOptions(
        budget=budget,
        fills=level.fills,
        neighbours=level.neighbours,
        recent_length=level.recent_length,
    )
    loop = SimLoop()
    embeddings, ranker = embeddings_of(trace, None, true_pairs=True, pairs=True)
    make = partial(_AsIfAbsent, trace, options, TrueProducts(truth))
    replayed = ReplayOptions(pairs=options)
    world = World(trace, replayed, embeddings, ranker, loop, _quiet, pairs=make)
    simulate(world.run(), loop)
    pairs = world.pairs
    assert isinstance(pairs, _AsIfAbsent)
    absent, served = pairs.absent, pairs.recording
    return Filled(Served(absent.rows, absent.sources), Served(served.rows, served.sources))


def held_out(users: U64, items: U64) -> NDArray[np.bool_]:
    """Which pairs no neighbour learns from: a quarter, by a hash of both. bool [n]."""
    mixed = (users * _MIX_1) ^ (items * _MIX_2)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _MIX_1
    return np.asarray(mixed >> np.uint64(62) == 0)


class _Unheld(Neighbours):
    """Learns from the pairs that are not held out."""

    def add(self, user: UserId, vector: F32, items: U64, rows: F32, version: int) -> None:
        """As of `Neighbours`."""
        assert isinstance(user, int)
        kept = ~held_out(np.full(len(items), user, dtype=np.uint64), items)
        if kept.any():
            super().add(user, vector, items[kept], rows[kept], version)


class _AsIfAbsent(PairWorld):
    """absent: what would have been served of every candidate without its own embedding."""

    def __init__(
        self,
        trace: Trace,
        options: PairOptions,
        embeddings: PairEmbeddings,
        clock: Clock,
        share: ShareAccount,
        metrics: Metrics,
    ) -> None:
        super().__init__(trace, options, embeddings, 10.0, 0, clock, share, metrics)
        self.absent = PairRecording(trace.rows, embeddings.dim)
        self._offsets = trace.offsets.tolist()
        self._items = trace.items

    def neighbours_of(
        self, options: PairOptions, dim: int, clock: Clock, seed: int
    ) -> Neighbours | None:
        """Those that do not learn from what is held out."""
        if "neighbour" not in options.fills:
            return None
        kind = cast(NeighbourKind, options.neighbours)
        return _Unheld(kind, dim, neighbour_limits(), clock, seed, in_thread=False)

    def answered(self, request: int, user: UserId, reply: RankReply) -> None:
        """Reads once more, as if nothing of its own were there."""
        start, stop = self._offsets[request], self._offsets[request + 1]
        items, row = self._items[start:stop], reply.users[MODEL]
        vector = None if row.source is Source.DEFAULT else row.row
        found = self.cache.read(PAIRS, user, items, 0, vector)
        landed_now = found.sources == Source.DIRECT
        found.rows[landed_now], found.sources[landed_now] = 0, Source.DEFAULT
        self.absent.note(start, PairRows(found.rows, found.sources, found.ages_ms, []))
        super().answered(request, user, reply)


def _quiet(share: float) -> None:
    """No progress within a replay."""
