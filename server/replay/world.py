"""One replay: the server's own store, batcher, refresher and pipeline, driven by a trace in virtual
time.

Invariant: with the same trace, options and seed every request gets the same answer. A day takes as
long as its work: waiting costs nothing.
"""

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial

import numpy as np

from predawn.server.batcher import Batcher, BatcherLimits
from predawn.server.cache import TableSpec, UserCache
from predawn.server.engine import checked_rows
from predawn.server.metrics import Metrics
from predawn.server.models.contract import RankerModel
from predawn.server.pipeline import Pipeline
from predawn.server.pipeline_rank import ServedRanker
from predawn.server.policy import Mode
from predawn.server.refresher import Refresher
from predawn.server.replay.embeddings import Embeddings
from predawn.server.replay.engine import SimEngine
from predawn.server.replay.options import ReplayOptions
from predawn.server.replay.pair_world import PAIRS, MakePairs, WithoutPairs
from predawn.server.replay.recording import Recording
from predawn.server.request import F32, RankBatch, RankRequest
from predawn.server.simloop import LoopClock, SimLoop
from predawn.server.traces import Trace

MODEL = "user"
RANKER = "ctr"
_FLUSH_DELAY_MS, _FLUSH_ROWS = 5, 256
_DRAIN_S = 60.0  # virtual, after the last request: what is still being computed is counted
_PROGRESS_EVERY = 2_000
_WAITING = (Mode.REALTIME, Mode.ERCACHE)


class World:
    """The parts of one server; `run` replays the trace once. pairs: makes those of a foundation
    model.

    counted_from: the first request that the figures are to count; inferences_before and
    retries_before: those until it came."""

    def __init__(
        self,
        trace: Trace,
        options: ReplayOptions,
        embeddings: Embeddings,
        ranker: RankerModel,
        loop: SimLoop,
        on_progress: Callable[[float], None],
        counted_from: int = 0,
        pairs: MakePairs = WithoutPairs,
    ) -> None:
        self._trace = trace
        self._options = options
        self._embeddings = embeddings
        self._on_progress = on_progress
        self._loop = loop
        self._clock = LoopClock(loop, start_wall_ms=int(trace.t_ms[0]))
        self._policy = options.policy()
        policies = {MODEL: self._policy}
        self.metrics = Metrics((MODEL,), (RANKER,), (PAIRS,))
        table = _table(options, embeddings.dim)
        self.cache = UserCache([table], self._clock, _FLUSH_DELAY_MS, _FLUSH_ROWS, _key(options))
        limits = BatcherLimits(seed=options.seed)
        self._batcher = Batcher(
            SimEngine(embeddings, options),
            self.cache.land,
            self.cache.flushed,
            self._clock,
            limits,
            self.metrics,
        )
        self._refresher = Refresher(
            self._batcher, self.cache, policies, embeddings.users, self._clock, self.metrics
        )
        self.pairs = pairs(self._clock, self._batcher.share_below(), self.metrics)
        self.cache.on_land(self.pairs.cache.renewed)
        self._pipeline = Pipeline(
            self.cache,
            self.pairs.reader,
            self._batcher,
            self._refresher.schedule,
            partial(_off_loop, ranker),
            policies,
            {RANKER: ServedRanker(RANKER, ranker, (MODEL,), pair_models=self.pairs.models)},
            self._clock,
            self.metrics,
        )
        self.counted_from = counted_from
        self.inferences_before = self.retries_before = 0
        self.recording = Recording(len(trace), trace.rows, embeddings.dim)
        self._features = _columns(trace, ranker.item_features)

    async def run(self) -> None:
        """All requests at their times, then what they left in the background."""
        background = [
            asyncio.create_task(self.cache.run()),
            asyncio.create_task(self._batcher.run()),
            asyncio.create_task(self._sweeps()),
            *map(asyncio.create_task, self.pairs.background()),
        ]
        try:
            await self._drive()
            await asyncio.sleep(_DRAIN_S)
        finally:
            await self._batcher.close()
            for task in background:
                task.cancel()
            ends = await asyncio.gather(*background, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _sweeps(self) -> None:
        """`frozen` is computed once, when the warm-up has shown some users."""
        if self._policy.mode is Mode.FROZEN:
            span_ms = int(self._trace.t_ms[-1] - self._trace.t_ms[0])
            await asyncio.sleep(self._options.warm_up * span_ms / 1000)
        await self._refresher.run()

    async def _drive(self) -> None:
        """A task per request where the mode waits; else a request never suspends and runs here."""
        waits = self._policy.mode in _WAITING
        start_s = self._loop.time()
        arrivals_s = ((self._trace.t_ms - self._trace.t_ms[0]) / 1000 + start_s).tolist()
        answering: set[asyncio.Task[None]] = set()
        for request, due_s in enumerate(arrivals_s):
            if due_s > self._loop.time():
                await self._until(due_s)
            if request == self.counted_from:
                before = self.metrics.models[MODEL]
                self.inferences_before, self.retries_before = before.computed(), before.retries
            if waits:
                task = self._loop.create_task(self._answer(request))
                answering.add(task)
                task.add_done_callback(answering.discard)
            else:
                await self._answer(request)
            if request % _PROGRESS_EVERY == 0:
                self._on_progress(request / len(arrivals_s))
        if answering:
            await asyncio.gather(*answering)

    async def _until(self, due_s: float) -> None:
        reached = self._loop.create_future()
        self._loop.call_at(due_s, reached.set_result, None)
        await reached

    async def _answer(self, request: int) -> None:
        """One request from arrival to what happens after its reply."""
        trace, began_ns = self._trace, self._clock.monotonic_ns()
        user = trace.user(request)
        self._embeddings.arrived(request, user)
        self.pairs.arrived(request, user)
        start, stop = trace.offsets[request], trace.offsets[request + 1]
        asked = RankRequest(
            user=user,
            item_hashes=trace.items[start:stop],
            item_features=self._features[start:stop],
            ranker=RANKER,
            deadline_ns=began_ns + self._options.timeout_ms * 1_000_000,
            top_k=1,
        )

        reply = await self._pipeline.rank(asked)

        took_ns = self._clock.monotonic_ns() - began_ns
        self.recording.note(request, reply, MODEL, int(start), took_ns)
        self.pairs.answered(request, user, reply)
        self._pipeline.after_reply(asked, reply)
        self._embeddings.answered(request, user)


def _table(options: ReplayOptions, dim: int) -> TableSpec:
    return TableSpec(
        model=MODEL,
        dim=dim,
        average_over=options.average_over,
        dtype="fp16",
        capacity=options.capacity,
        default=np.zeros(dim, dtype=np.float32),
        failover_ttl_ms=options.ages().failover_ttl_ms,
    )


def _key(options: ReplayOptions) -> bytes:
    """The store's key, drawn from the seed: evictions are reproducible too."""
    return hashlib.blake2b(str(options.seed).encode(), digest_size=32).digest()


def _columns(trace: Trace, names: tuple[str, ...]) -> F32:
    """Item features in the ranker's order, 0 where the trace has none. float32 [rows, F]."""
    columns = np.zeros((trace.rows, len(names)), dtype=np.float32)
    for column, name in enumerate(names):
        if name in trace.item_feature_names:
            columns[:, column] = trace.item_features[:, trace.item_feature_names.index(name)]
    return columns


async def _off_loop(ranker: RankerModel, name: str, batch: RankBatch) -> F32:
    """Virtual time has no threads: a ranker that wants one runs here."""
    return checked_rows(name, ranker.score(batch), (len(batch.item_hashes), len(ranker.tasks)))
