"""SOLARIS without speculation (arXiv 2604.12110): a pair that a request missed is computed behind
it, and the next request finds it.

Invariant: no request waits for anything here, whatever the engine does: `ask` puts pairs in a
bounded queue. One task gives the engine one batch at a time, on what refreshes leave over of the
background's share of its time; what it returns is landed in the same step, so nothing that was
computed is lost to a stop. Every missed pair is waiting, running, or counted once by how it ended.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from predawn.server.batcher_share import ShareAccount
from predawn.server.clock import Clock
from predawn.server.engine import Computed, EmbedsPairs
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import PairCache
from predawn.server.request import F32, U64, PairRows, RankRequest, Source, UserId, UserItems
from predawn.server.speculation.missed_queue import MissedQueue, PairLimits

__all__ = ["MissedPairs", "PairLimits"]


@dataclass(slots=True)
class _Running:
    """The batch that the engine has. void: users invalidated meanwhile, whose rows are not kept."""

    model: str
    batch: list[UserItems]
    items: dict[UserId, set[int]]
    void: set[UserId] = field(default_factory=set[UserId])

    @property
    def pairs(self) -> int:
        return sum(map(len, self.items.values()))


class MissedPairs:
    """limits: by pair model; share: `Batcher.share_below`; hang_after_ms: of a batch that took
    longer, only so much is charged to the share."""

    def __init__(
        self,
        engine: EmbedsPairs,
        cache: PairCache,
        limits: Mapping[str, PairLimits],
        share: ShareAccount,
        hang_after_ms: int,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._queues = {model: MissedQueue(each) for model, each in limits.items()}
        self._turns = list(limits)  # whose batch is next, of those that have one
        self._share = share
        self._hang_after_ns = hang_after_ms * 1_000_000
        self._clock = clock
        self._metrics = metrics
        self._running: _Running | None = None
        self._asked = asyncio.Event()

    def asked(
        self, model: str, request: RankRequest, rows: PairRows, scores: F32, vector: F32 | None
    ) -> None:
        """`HearsPairs`: has those computed that the request has missed."""
        missed = rows.sources != Source.DIRECT
        if missed.any():
            self.ask(model, request.user, request.item_hashes[missed])

    def ask(self, model: str, user: UserId, items: U64) -> None:
        """Has the pairs of `user` and `items` uint64 [n], each once, computed behind the
        requests."""
        queue, running = self._queues[model], self._running
        computing = running.items.get(user, ()) if running and running.model == model else ()
        coalesced = queue.add(user, items, computing, self._clock.monotonic_ns())
        self._metrics.missed(model, "coalesced", coalesced)
        self._metrics.missed(model, "full", queue.shrink())
        self._asked.set()

    def invalidated(self, model: str, users: Sequence[UserId]) -> None:
        """`PairCache.on_invalidate`: what is being computed for these users began before it, so it
        is not kept; the next request asks again."""
        if self._running is not None and self._running.model == model:
            self._running.void.update(users)

    def waiting(self) -> dict[str, int]:
        """Pairs in the queue, by model."""
        return {model: len(queue) for model, queue in self._queues.items()}

    async def run(self) -> None:
        """Computes what is asked for, until cancelled."""
        while True:
            model = next((name for name in self._turns if self._queues[name]), None)
            now_ns = self._clock.monotonic_ns()
            pause_ns = self._share.allowed_ns(now_ns) - now_ns
            if model is None:
                self._asked.clear()
                await self._asked.wait()
            elif pause_ns > 0:
                await asyncio.sleep(pause_ns / 1e9 + 1e-6)
            else:
                await self._next_batch(model, now_ns)

    async def _next_batch(self, model: str, now_ns: int) -> None:
        self._turns.remove(model)
        self._turns.append(model)
        batch, stale = self._queues[model].take(now_ns)
        self._metrics.missed(model, "stale", stale)
        if not batch:
            return
        items = {each.user: set(each.item_hashes.tolist()) for each in batch}
        running = self._running = _Running(model, batch, items)
        try:
            if await self._cache.ready(model, list(items)):
                await self._compute(running)
            else:
                self._metrics.missed(model, "failed", running.pairs)
        finally:
            self._running = None

    async def _compute(self, running: _Running) -> None:
        began_ns = self._clock.monotonic_ns()
        call = asyncio.ensure_future(self._engine.pairs(running.model, running.batch))
        try:
            await asyncio.wait((call,))
        finally:
            # Also when this task is cancelled in the very step in which the result has come.
            if call.done():
                self._ended(running, call, self._clock.monotonic_ns() - began_ns)
            else:
                call.cancel()

    def _ended(self, running: _Running, call: asyncio.Future[Computed], took_ns: int) -> None:
        """A failure has been said by the engine, and costs the pairs of this batch alone."""
        if call.cancelled() or call.exception() is not None:
            self._metrics.missed(running.model, "failed", running.pairs)
        else:
            computed = call.result()
            took_ns = computed.engine_ns
            self._land(running, computed)
        self._share.spend(min(took_ns, self._hang_after_ns))

    def _land(self, running: _Running, computed: Computed) -> None:
        """Keeps the good rows of the users who were not invalidated meanwhile."""
        kept: list[UserItems] = []
        good, void, begin = computed.ok.copy(), 0, 0
        for each in running.batch:
            end = begin + len(each.item_hashes)
            if each.user in running.void:
                good[begin:end] = False
                void += end - begin
            else:
                kept.append(UserItems(each.user, each.item_hashes[good[begin:end]]))
            begin = end
        landed = int(good.sum())
        if landed:
            self._cache.land(running.model, kept, computed.rows[good], computed.snapshot)
        self._metrics.missed(running.model, "ok", landed)
        self._metrics.missed(running.model, "void", void)
        self._metrics.missed(running.model, "invalid", running.pairs - void - landed)
