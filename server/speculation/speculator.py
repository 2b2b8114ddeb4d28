"""SOLARIS (arXiv 2604.12110): pairs are computed behind the requests that missed them, and before
the requests that will ask for them.

Invariant: no request waits for anything here, whatever the engine does: hearing one fills bounded
queues. One task gives the engine one slice at a time, never the next before that one is back, on
what refreshes leave over of the background's share of its time; what it returns is landed in the
same step, so nothing that was computed is lost to a stop. Which pairs, and what they may cost, is
each model's `Planner`'s to say; models take turns.
"""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from predawn.csrc import _core
from predawn.server.batcher_share import ShareAccount
from predawn.server.clock import Clock
from predawn.server.engine import Computed, EmbedsPairs
from predawn.server.metrics import Metrics, SpeculationCounts
from predawn.server.request import F32, U8, PairRows, RankRequest, UserId, UserItems
from predawn.server.speculation.contract import Origin
from predawn.server.speculation.planner import Planner
from predawn.server.speculation.scheduler import Planned

__all__ = ["KeepsPairs", "SpeculatedModel", "Speculator"]

_LOG = logging.getLogger(__name__)
_PLANNED = 32  # users looked at before the engine gets its next slice
_SETTLE_NS = 1_000_000_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 30.0


class KeepsPairs(Protocol):
    """The store of pairs: `PairCache`."""

    async def ready(self, model: str, users: Sequence[UserId]) -> bool:
        """False when what is computed for `users` could not be kept."""
        ...

    def land(
        self,
        model: str,
        wanted: Sequence[UserItems],
        raw: F32,
        snapshot: int,
        origin: U8 | int = _core.ORIGIN_COMPUTED,
    ) -> int:
        """Writes rows [sum of items, dim], each with its ORIGIN_."""
        ...


@dataclass(slots=True)
class SpeculatedModel:
    """One pair model. share: its own account of engine time, beside what all background work may
    take."""

    planner: Planner
    share: ShareAccount


@dataclass(slots=True)
class _Running:
    """The slice that the engine has. void: users invalidated meanwhile, whose rows are not kept."""

    model: str
    slice: list[Planned]
    items: dict[UserId, frozenset[int]]
    void: set[UserId] = field(default_factory=set[UserId])


class Speculator:
    """models: by pair model; share: `Batcher.share_below`; hang_after_ms: of a slice that took
    longer, only so much is charged to the shares; seed: of the pauses' jitter."""

    def __init__(
        self,
        engine: EmbedsPairs,
        cache: KeepsPairs,
        models: Mapping[str, SpeculatedModel],
        share: ShareAccount,
        hang_after_ms: int,
        clock: Clock,
        metrics: Metrics,
        seed: int = 0,
    ) -> None:
        self._engine = engine
        self._cache = cache
        self.models = models
        self._turns = list(models)  # whose slice is next, of those that have one
        self._share = share
        self._hang_after_ns = hang_after_ms * 1_000_000
        self._clock = clock
        self._metrics = metrics
        self._random = random.Random(seed)
        self._running: _Running | None = None
        self._failures = 0
        self._paused_until_ns = 0
        self._settled_ns = clock.monotonic_ns()
        self._heard: asyncio.Future[None] | None = None

    def asked(
        self, model: str, request: RankRequest, rows: PairRows, scores: F32, vector: F32 | None
    ) -> None:
        """`HearsPairs`: a request has been answered with `rows` of this model's pairs."""
        self.models[model].planner.asked(
            request.user,
            request.item_hashes,
            scores,
            rows.sources,
            self._items_running(model, request.user),
            self._clock.monotonic_ns(),
            self._clock.wall_ms(),
        )
        self._wake()

    def hint(self, user: UserId) -> int:
        """A user has arrived and may ask soon: he is looked at first; in how many models."""
        now_ns = self._clock.monotonic_ns()
        hinted = sum(each.planner.hint(user, now_ns) for each in self.models.values())
        self._wake()
        return hinted

    def invalidated(self, model: str, users: Sequence[UserId]) -> None:
        """`PairCache.on_invalidate`: what is being computed for these users began before it, so it
        is not kept; the next request asks again."""
        planner = self.models[model].planner
        planner.cost.forget(users)
        for user in users:
            planner.ledger.invalidated(user)
        if self._running is not None and self._running.model == model:
            self._running.void.update(users)

    def waiting(self) -> dict[str, int]:
        """Pairs in the queues, by model."""
        return {name: len(each.planner) for name, each in self.models.items()}

    def counts(self) -> dict[str, SpeculationCounts]:
        """`Metrics.speculation`."""
        return {name: each.planner.counts() for name, each in self.models.items()}

    def report(self) -> dict[str, dict[str, Any]]:
        """JSON-ready, by model: what is spent, what it brings, and why it is not more."""
        return {
            name: {**each.planner.report(), "ledger": each.planner.ledger.report()}
            for name, each in self.models.items()
        }

    async def run(self) -> None:
        """Computes what is worth it, until cancelled."""
        while True:
            now_ns = self._clock.monotonic_ns()
            self._settle(now_ns)
            unplanned = await self._plan(now_ns)
            running = self._next_slice(self._clock.monotonic_ns())
            if running is not None:
                await self._compute(running)
            elif not unplanned:
                await self._changed(now_ns)

    # What is next

    async def _plan(self, now_ns: int) -> int:
        """Looks at a few of the users who have asked, one in each turn of the loop; returns how
        many are left."""
        left = 0
        for each in self.models.values():
            planner, room = each.planner, _PLANNED
            while planner.unplanned and room:
                planner.plan(now_ns, self._clock.wall_ms())
                room -= 1
                await asyncio.sleep(0)
            left += planner.unplanned
        return left

    def _next_slice(self, now_ns: int) -> _Running | None:
        """Of the model whose turn it is, of those that have something to compute now."""
        if max(self._paused_until_ns, self._share.allowed_ns(now_ns)) > now_ns:
            return None
        for name in list(self._turns):
            each = self.models[name]
            if not (each.planner.can_take(now_ns) and each.share.may_start(now_ns)):
                continue
            planned = each.planner.take(now_ns, self._clock.wall_ms())
            if planned:
                self._turns.remove(name)
                self._turns.append(name)
                items = {each.user: frozenset(each.pairs.items.tolist()) for each in planned}
                return _Running(name, planned, items)
        return None

    async def _changed(self, now_ns: int) -> None:
        """Until a request is heard, or time alone allows what waits."""
        loop = asyncio.get_running_loop()
        self._heard = loop.create_future()
        due_ns = self._due_ns(now_ns)
        timer = None
        if due_ns is not None:
            timer = loop.call_later(max(0, due_ns - now_ns) / 1e9 + 1e-6, self._wake)
        try:
            await self._heard
        finally:
            self._heard = None
            if timer is not None:
                timer.cancel()

    def _due_ns(self, now_ns: int) -> int | None:
        """When something that waits may go to the engine, if nothing happens before."""
        free_ns = max(self._paused_until_ns, self._share.allowed_ns(now_ns))
        due_ns = [
            max(free_ns, each.share.allowed_ns(now_ns), each.planner.budget.due_ns(now_ns) or 0)
            for each in self.models.values()
            if each.planner.can_take(now_ns) or each.planner.budget.due_ns(now_ns)
        ]
        later = [each for each in due_ns if each > now_ns]
        return min(later) if later else None

    def _wake(self) -> None:
        if self._heard is not None and not self._heard.done():
            self._heard.set_result(None)

    def _settle(self, now_ns: int) -> None:
        if now_ns - self._settled_ns < _SETTLE_NS:
            return
        self._settled_ns = now_ns
        now_ms = self._clock.wall_ms()
        for name, each in self.models.items():
            if each.planner.settle(now_ms):
                reason = each.planner.throttle.reason() or "pays again: all of the budget"
                _LOG.info("speculation: pairs of model %s: %s", name, reason)

    # A slice

    async def _compute(self, running: _Running) -> None:
        self._running = running
        try:
            if await self._cache.ready(running.model, list(running.items)):
                await self._on_engine(running)
            else:
                self._failed(running)
        finally:
            self._running = None

    async def _on_engine(self, running: _Running) -> None:
        began_ns = self._clock.monotonic_ns()
        batch = [UserItems(each.user, each.pairs.items) for each in running.slice]
        call = asyncio.ensure_future(self._engine.pairs(running.model, batch))
        try:
            await asyncio.wait((call,))
        finally:
            # Also when this task is cancelled in the very step in which the result has come.
            if call.done():
                self._ended(running, call, self._clock.monotonic_ns() - began_ns)
            else:
                call.cancel()

    def _ended(self, running: _Running, call: asyncio.Future[Computed], took_ns: int) -> None:
        """A failure has been said by the engine, and costs the pairs of this slice alone."""
        each = self.models[running.model]
        pairs = sum(len(planned.pairs) for planned in running.slice)
        if call.cancelled() or call.exception() is not None:
            self._failed(running)
        else:
            computed = call.result()
            took_ns = computed.engine_ns
            self._failures = 0
            self._land(running, computed)
            each.planner.cost.ran(list(running.items), pairs, took_ns)
        took_ns = min(took_ns, self._hang_after_ns)
        self._share.spend(took_ns)
        # What is throttled pays more for the engine as it does in tokens.
        tokens = sum(planned.tokens for planned in running.slice)
        each.share.spend(round(took_ns * tokens / pairs))

    def _failed(self, running: _Running) -> None:
        """The engine is left alone for a while, longer each time."""
        planner, now_ms = self.models[running.model].planner, self._clock.wall_ms()
        for each in running.slice:
            planner.ended("failed", each.pairs.origins)
            planner.ledger.failed(each.user, each.pairs.items, now_ms)
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures, 20))
        self._failures += 1
        pause_ns = round(pause_s * self._random.uniform(0.5, 1.5) * 1e9)
        self._paused_until_ns = self._clock.monotonic_ns() + pause_ns

    def _land(self, running: _Running, computed: Computed) -> None:
        """Keeps the good rows of the users who were not invalidated meanwhile."""
        planner, now_ms = self.models[running.model].planner, self._clock.wall_ms()
        kept: list[UserItems] = []
        classes: list[U8] = []
        good, begin = computed.ok.copy(), 0
        for each in running.slice:
            items, origins = each.pairs.items, each.pairs.origins
            end = begin + len(items)
            if each.user in running.void:
                good[begin:end] = False
                planner.ended("void", origins)
            else:
                mine = good[begin:end]
                kept.append(UserItems(each.user, items[mine]))
                classes.append(_CLASSES[origins[mine]])
                planner.ended("ok", origins[mine])
                planner.ended("invalid", origins[~mine])
                planner.ledger.landed(each.user, items[mine], now_ms)
                planner.ledger.failed(each.user, items[~mine], now_ms)
            begin = end
        if good.any():
            rows, origin = computed.rows[good], np.concatenate(classes)
            self._cache.land(running.model, kept, rows, computed.snapshot, origin)

    def _items_running(self, model: str, user: UserId) -> frozenset[int]:
        running = self._running
        if running is None or running.model != model or user in running.void:
            return frozenset()
        return running.items.get(user, frozenset())


_CLASSES: U8 = np.full(len(Origin), _core.ORIGIN_SPECULATIVE, dtype=np.uint8)
"""Of the store, by origin: a missed pair has been asked for, the others have to prove themselves in
the quota for them."""
_CLASSES[Origin.MISSED] = _core.ORIGIN_COMPUTED
