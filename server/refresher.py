"""Work behind the requests: refreshes, hints, and the sweeps of modes batch and frozen.

Invariant: at most one refresh of a (model, user) is under way, and no request ever waits for
anything here. What the batcher refuses is shed and counted, not retried: the next request of that
user asks again. A sweep keeps at most `sweep_rows` refreshes in flight and waits out an overload,
so it never fills the queue in front of the refreshes that requests ask for.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from predawn.server.batcher import NO_DEADLINE_NS, Batcher
from predawn.server.batcher_queue import Caller
from predawn.server.cache import UserCache
from predawn.server.clock import Clock
from predawn.server.errors import Overloaded, Unavailable
from predawn.server.metrics import Metrics
from predawn.server.policy import Mode, ModelPolicy
from predawn.server.request import Lane, UserId

_LOG = logging.getLogger(__name__)
_COMPUTED_BY_REQUESTS = (Mode.ERCACHE, Mode.SOAP)  # and kept: what a hint can start early


class Refresher:
    """policies: by user model; users: every known user, asked for at each sweep."""

    def __init__(
        self,
        batcher: Batcher,
        cache: UserCache,
        policies: Mapping[str, ModelPolicy],
        users: Callable[[], Iterable[UserId]],
        clock: Clock,
        metrics: Metrics,
        sweep_rows: int = 128,
    ) -> None:
        self._batcher = batcher
        self._cache = cache
        self._policies = policies
        self._users = users
        self._clock = clock
        self._metrics = metrics
        self._sweep_rows = sweep_rows
        self._pending: dict[tuple[str, UserId], Caller] = {}

    @property
    def pending(self) -> int:
        """Refreshes under way."""
        return len(self._pending)

    def schedule(self, model: str, users: Sequence[UserId]) -> int:
        """Asks for new embeddings behind the requests; returns how many are newly under way. Those
        already under way and those refused (full queue, hung engine) are counted, not raised."""
        accepted = 0
        for user in users:
            if (model, user) in self._pending:
                self._metrics.refreshed(model, "coalesced")
                continue
            try:
                self._start(model, user)
            except Overloaded:
                self._metrics.refreshed(model, "shed")
            else:
                accepted += 1
        return accepted

    def hint(self, user: UserId) -> int:
        """A user has arrived and may ask soon: starts the models whose embedding is not fresh;
        returns how many were started."""
        return sum(
            self.schedule(model, (user,))
            for model, policy in self._policies.items()
            if policy.mode in _COMPUTED_BY_REQUESTS and self._is_older(model, user, policy)
        )

    async def run(self) -> None:
        """The sweeps: `batch` models every `batch_every_ms` from now on, until cancelled; `frozen`
        models once, for users without an entry. Returns when there is nothing left to sweep."""
        async with asyncio.TaskGroup() as sweeps:
            for model, policy in self._policies.items():
                if policy.mode is Mode.BATCH:
                    sweeps.create_task(self._sweep_every(model, policy.batch_every_ms / 1e3))
                elif policy.mode is Mode.FROZEN:
                    sweeps.create_task(self._sweep(model, only_absent=True))

    async def _sweep_every(self, model: str, period_s: float) -> None:
        while True:
            began_ns = self._clock.monotonic_ns()

            await self._sweep(model, only_absent=False)

            took_s = (self._clock.monotonic_ns() - began_ns) / 1e9
            await asyncio.sleep(max(0.0, period_s - took_s))

    async def _sweep(self, model: str, only_absent: bool) -> None:
        users, swept = iter(self._users()), 0
        while chunk := list(itertools.islice(users, self._sweep_rows)):
            if only_absent:
                ages_ms = self._cache.read(model, chunk, self._failover_ttl_ms(model)).ages_ms
                chunk = [user for user, age_ms in zip(chunk, ages_ms, strict=True) if age_ms < 0]

            await self._compute(model, chunk)

            swept += len(chunk)
        _LOG.info("sweep of model %s: %d users", model, swept)

    async def _compute(self, model: str, users: list[UserId]) -> None:
        """Until each of `users` has been computed or has failed."""
        while users:
            started, pause_s = self._start_many(model, users)
            users = users[len(started) :]

            if started:
                await asyncio.wait(started)
            elif users:
                await asyncio.sleep(pause_s)

    def _start_many(self, model: str, users: list[UserId]) -> tuple[list[Caller], float]:
        """Starts users in order up to the first that is refused; the pause that its refusal names
        (0: none was)."""
        started: list[Caller] = []
        for user in users:
            try:
                started.append(self._pending.get((model, user)) or self._start(model, user))
            except Overloaded as refused:
                return started, refused.retry_after_s
        return started, 0.0

    def _start(self, model: str, user: UserId) -> Caller:
        caller = self._batcher.submit(model, user, Lane.REFRESH, NO_DEADLINE_NS)
        self._pending[model, user] = caller
        caller.add_done_callback(partial(self._ended, model, user))
        return caller

    def _ended(self, model: str, user: UserId, caller: Caller) -> None:
        del self._pending[model, user]
        error = None if caller.cancelled() else caller.exception()
        if error is None:
            self._metrics.refreshed(model, "ok")
        else:
            self._metrics.refreshed(model, "shed" if isinstance(error, Unavailable) else "failed")

    def _is_older(self, model: str, user: UserId, policy: ModelPolicy) -> bool:
        """Not fresh: absent, or older than `direct_ttl_ms`."""
        return bool(self._cache.read(model, (user,), policy.ages.direct_ttl_ms).ages_ms[0] < 0)

    def _failover_ttl_ms(self, model: str) -> int:
        return self._policies[model].ages.failover_ttl_ms
