"""The pairs' side of a replayed server: the real store, reader and speculation over a simulated
foundation model, with the configuration's defaults for what a replay does not vary.

Invariant: an asked pair is noted once, as the reply had it.
"""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from predawn.server.batcher_share import ShareAccount
from predawn.server.cache_place import TableSpec
from predawn.server.clock import Clock
from predawn.server.config import EngineConfig
from predawn.server.config_pairs import PairModelConfig, SpeculationConfig
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import FillRules, PairCache
from predawn.server.pair_neighbours import NeighbourKind, NeighbourLimits, Neighbours
from predawn.server.pipeline_pairs import PairReader
from predawn.server.replay.engine import SNAPSHOT
from predawn.server.replay.pair_embeddings import PairEmbeddings
from predawn.server.replay.pair_engine import SimPairEngine
from predawn.server.replay.pair_options import PairOptions
from predawn.server.replay.pair_recording import PairRecording
from predawn.server.request import (
    F32,
    PairRows,
    RankReply,
    RankRequest,
    Source,
    UserId,
    UserItems,
)
from predawn.server.speculation.assembly import EngineTime, speculator_of
from predawn.server.speculation.contract import PredictsPairs
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.predictor import PredictorKind, PredictorLimits, predictor_of
from predawn.server.traces import Trace

PAIRS = "fm"
_SPECULATION = SpeculationConfig()  # pyright: ignore[reportCallIssue]


class PairSide(Protocol):
    """What a replayed world drives: its models' names, their reader and what goes with it."""

    models: tuple[str, ...]
    cache: PairCache
    reader: PairReader

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the requests."""
        ...

    def arrived(self, request: int, user: UserId) -> None:
        """A request has come in."""
        ...

    def answered(self, request: int, user: UserId, reply: RankReply) -> None:
        """It has been answered."""
        ...


MakePairs: TypeAlias = Callable[[Clock, ShareAccount, Metrics], PairSide]


class WithoutPairs:
    """A server without pair models."""

    models: tuple[str, ...] = ()

    def __init__(self, clock: Clock, share: ShareAccount, metrics: Metrics) -> None:
        del share
        self.cache = PairCache([], clock)
        self.reader = PairReader(self.cache, {}, self, metrics)

    def background(self) -> list[Coroutine[Any, Any, None]]:
        return []

    def arrived(self, request: int, user: UserId) -> None:
        pass

    def answered(self, request: int, user: UserId, reply: RankReply) -> None:
        pass

    def asked(
        self, model: str, request: RankRequest, rows: PairRows, scores: F32, vector: F32 | None
    ) -> None:
        """Never called: there is nothing to hear of."""


class PairWorld:
    """One model, PAIRS. share: what of the engine's time pairs may take; fresh: float16 [rows,
    dim], the embedding of every pair at its own request, where nobody knows it afterwards."""

    models: tuple[str, ...] = (PAIRS,)

    def __init__(
        self,
        trace: Trace,
        options: PairOptions,
        embeddings: PairEmbeddings,
        hang_s: float,
        seed: int,
        clock: Clock,
        share: ShareAccount,
        metrics: Metrics,
    ) -> None:
        self._trace = trace
        self._embeddings = embeddings
        self.engine = SimPairEngine(embeddings, options, hang_s, clock, seed)
        self._neighbours = self.neighbours_of(options, embeddings.dim, clock, seed)
        self.cache = PairCache(
            [_table(options, embeddings.dim)],
            clock,
            hashlib.blake2b(str(seed).encode(), digest_size=32).digest(),
            fills={PAIRS: _fills(options)},
            neighbours={PAIRS: self._neighbours} if self._neighbours else {},
        )
        self.cache.replace_version(PAIRS, SNAPSHOT)
        engine_config = EngineConfig()  # pyright: ignore[reportCallIssue]
        time = EngineTime(share, engine_config.background_share, engine_config.hang_after)
        self._speculator = speculator_of(
            {PAIRS: _limits(options)},
            {PAIRS: _predictor(options, seed)},
            self.engine,
            self.cache,
            time,
            clock,
            metrics,
            seed,
        )
        self.reader = PairReader(self.cache, {PAIRS: options.ttl_ms}, self._speculator, metrics)
        self.recording = PairRecording(trace.rows, embeddings.dim)
        self.fresh: NDArray[np.float16] | None = None
        if options.fm is not None:
            self.fresh = np.zeros((trace.rows, embeddings.dim), dtype=np.float16)

    def neighbours_of(
        self, options: PairOptions, dim: int, clock: Clock, seed: int
    ) -> Neighbours | None:
        """What fills absent pairs from similar users, if anything does."""
        if "neighbour" not in options.fills:
            return None
        kind = cast(NeighbourKind, options.neighbours)
        return Neighbours(kind, dim, neighbour_limits(), clock, seed, in_thread=False)

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the requests."""
        running: list[Coroutine[Any, Any, None]] = [self._speculator.run()]
        if self._neighbours is not None:
            running.append(self._neighbours.run())
        return running

    def arrived(self, request: int, user: UserId) -> None:
        """A request has come in."""
        self._embeddings.arrived(request, user)
        if self.fresh is not None:  # of a trained model nobody knows it afterwards
            rows = slice(self._trace.offsets[request], self._trace.offsets[request + 1])
            items = self._trace.items[rows]
            self.fresh[rows] = self._embeddings.embed([UserItems(user, items)])

    def answered(self, request: int, user: UserId, reply: RankReply) -> None:
        """It has been answered."""
        self.recording.note(int(self._trace.offsets[request]), reply.pairs[PAIRS])
        self._embeddings.answered(request, user)

    def report(self) -> dict[str, Any]:
        """What speculation says of itself since the trace began: predictor, ledger, budget."""
        found = self._speculator.report()[PAIRS]
        neighbours = self._neighbours
        return found | ({} if neighbours is None else {"neighbours": neighbours.report()})


def _table(options: PairOptions, dim: int) -> TableSpec:
    default = np.zeros(dim, dtype=np.float32)
    return TableSpec(PAIRS, dim, 1, "fp16", options.capacity, default, holds="pairs")


def _fills(options: PairOptions) -> FillRules:
    order = tuple(Source[level.upper()] for level in options.fills)
    return FillRules(order, _default("fill_ttl"), options.recent_length)


def neighbour_limits() -> NeighbourLimits:
    """Those of the configuration."""
    return NeighbourLimits(
        items=_default("neighbour_items"),
        clusters=_default("clusters"),
        fill_ttl_ms=_default("fill_ttl"),
    )


def _limits(options: PairOptions) -> PairLimits:
    config = _SPECULATION
    return PairLimits(
        ttl_ms=options.ttl_ms,
        queue_limit=_default("queue_limit"),
        batch_users=_default("batch_users"),
        batch_pairs=_default("batch_pairs"),
        capacity=options.capacity,
        pairs_per_asked=options.budget,
        entries=config.entries,
        least_chance=config.least_chance,
        user_share=config.user_share,
        fill_value={Source[name.upper()]: value for name, value in config.fill_value.items()},
    )


def _predictor(options: PairOptions, seed: int) -> PredictsPairs | None:
    if options.predictor == "none":
        return None
    remembered = PredictorLimits(
        ttl_ms=options.ttl_ms,
        users=_SPECULATION.tracked_users,
        items=_SPECULATION.tracked_items,
        lists=_SPECULATION.lists,
        popular=_SPECULATION.popular_items,
        least_chance=_SPECULATION.least_chance,
        seed=seed,
    )
    return predictor_of(cast(PredictorKind, options.predictor), remembered)


def _default(setting: str) -> Any:
    """Of [pairs.NAME]."""
    return PairModelConfig.model_fields[setting].default
