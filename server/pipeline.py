"""The request path, on one screen: read -> decide -> wait? -> rank -> top-k.

Invariant: a request is answered from what is there. Only a model whose mode says so is waited for,
never past the request's deadline, and a wait that fails leaves the fallback that the policy table
names. What was missed is scheduled after the reply (`after_reply`).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from predawn.server.batcher import Batcher
from predawn.server.cache import UserCache
from predawn.server.clock import Clock
from predawn.server.errors import UnknownName
from predawn.server.metrics import Metrics
from predawn.server.pipeline_pairs import PairReader
from predawn.server.pipeline_rank import (
    OffLoop,
    ServedRanker,
    rank_batch,
    scored_or_as_sent,
    top_k,
)
from predawn.server.pipeline_wait import OVERLOADED, TIMEOUT, Wait, computed
from predawn.server.policy import Mode, ModelPolicy, decide_one
from predawn.server.request import RankReply, RankRequest, Source, UserId, UserRow

RANK_RESERVE_NS = 2_000_000
"""Kept from a request's time for what comes after the waits: ranking and writing the reply."""


class Pipeline:
    """pairs: of all pair models; policies: by user model; rankers: by name, the first is the
    default; schedule: `Refresher.schedule`; off_loop: `Engine.score`."""

    def __init__(
        self,
        cache: UserCache,
        pairs: PairReader,
        batcher: Batcher,
        schedule: Callable[[str, Sequence[UserId]], int],
        off_loop: OffLoop,
        policies: Mapping[str, ModelPolicy],
        rankers: Mapping[str, ServedRanker],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._cache = cache
        self._pairs = pairs
        self._batcher = batcher
        self._schedule = schedule
        self._off_loop = off_loop
        self._policies = policies
        self._rankers = rankers
        self._clock = clock
        self._metrics = metrics

    def ranker(self, name: str) -> ServedRanker:
        """The ranker of that name, the default for ""; UnknownName names the nearest."""
        found = self._rankers.get(name or next(iter(self._rankers), ""))
        if found is None:
            raise UnknownName("ranker", name, self._rankers)
        return found

    async def rank(self, request: RankRequest) -> RankReply:
        """Answers by the request's deadline, degraded if need be. UnknownName; unless it is to
        leave the order as sent: InferenceError when the ranker itself fails, DeadlineExceeded when
        a ranker off the loop has no scores."""
        ranker = self.ranker(request.ranker)
        began_ns = self._clock.monotonic_ns()
        rows, waits = self._read(ranker.user_models, request, began_ns)
        pairs = self._pairs.read(ranker.pair_models, request, rows)
        read_ns = self._clock.monotonic_ns()

        if waits:
            await computed(self._batcher, self._clock, self._metrics, request.user, waits, rows)

        waited_ns = self._clock.monotonic_ns()
        users = [rows[model] for model in ranker.user_models]
        batch = rank_batch(request, users, tuple(pairs.values()))
        left_s = (request.deadline_ns - waited_ns) / 1e9

        scores, failure = await scored_or_as_sent(ranker, batch, self._off_loop, left_s)

        ranked = np.ascontiguousarray(scores[:, ranker.task])
        order = top_k(ranked, request.top_k)
        ended_ns = self._clock.monotonic_ns()
        stages_ns = {
            "lookup": read_ns - began_ns,
            "wait": waited_ns - read_ns,
            "rank": ended_ns - waited_ns,
        }
        self._count(rows, stages_ns)
        if failure:
            self._metrics.ranked_as_sent(ranker.name)
        return RankReply(
            order=order,
            scores=ranked,
            users=rows,
            degraded=bool(failure) or any(row.reason for row in rows.values()),
            task_scores=scores,
            tasks=ranker.model.tasks,
            stages_ns=stages_ns,
            pairs=pairs,
        )

    def after_reply(self, request: RankRequest, reply: RankReply) -> None:
        """Schedules what the request found old or missing, pairs too: by the policy table, and for
        a model with a store what was not waited for to the end. A failed inference is not
        repeated."""
        for model, row in reply.users.items():
            policy = self._policies[model]
            gave_up = policy.mode is Mode.ERCACHE and row.reason in (TIMEOUT, OVERLOADED)
            if gave_up or decide_one(policy.mode, row.age_ms, policy.ages).refresh:
                self._schedule(model, (request.user,))
        self._pairs.after_reply(request, reply)

    def _read(
        self, models: Sequence[str], request: RankRequest, now_ns: int
    ) -> tuple[dict[str, UserRow], dict[str, Wait]]:
        """What there is, by model, and the waits of those that are to be computed. Only where
        there is nothing but the default to fall back on is a failed inference asked for again."""
        rows: dict[str, UserRow] = {}
        waits: dict[str, Wait] = {}
        for model in models:
            policy = self._policies[model]
            reading = self._cache.read(model, (request.user,), policy.ages.failover_ttl_ms)
            age_ms = int(reading.ages_ms[0])
            cell = decide_one(policy.mode, age_ms, policy.ages)
            if cell.source is Source.DEFAULT:
                rows[model] = UserRow(cell.source, -1, self._cache.default(model))
            else:
                snapshot = int(reading.snapshots[0])
                rows[model] = UserRow(cell.source, age_ms, reading.rows[0], snapshot)
            if cell.wait:
                latest_ns = request.deadline_ns - RANK_RESERVE_NS
                due_ns = min(now_ns + policy.wait_ms * 1_000_000, latest_ns)
                waits[model] = Wait(due_ns, policy.retries if cell.source is Source.DEFAULT else 0)
        return rows, waits

    def _count(self, rows: Mapping[str, UserRow], stages_ns: Mapping[str, int]) -> None:
        for model, row in rows.items():
            self._metrics.served(model, row.source, row.age_ms, bool(row.reason))
        for stage, took_ns in stages_ns.items():
            self._metrics.stage(stage, took_ns)
