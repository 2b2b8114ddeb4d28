"""What must hold in every run, whatever the engine does: checked while it happens.

The oracle is a dictionary per (model, user) and the policy as nested ifs: nothing of the server.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sim.engine import Call
from sim.pair_checker import Expected, PairChecker
from sim.world import MS, Setup, Watcher, World

from predawn.server.batcher import BatcherLimits
from predawn.server.batcher_queue import Caller
from predawn.server.batcher_share import BURST_NS
from predawn.server.errors import InferenceError
from predawn.server.pipeline import RANK_RESERVE_NS
from predawn.server.policy import Mode, ModelPolicy
from predawn.server.request import (
    F32,
    Lane,
    RankReply,
    RankRequest,
    Source,
    UserId,
    UserItems,
    UserRow,
)

Key = tuple[str, UserId]
Attempts = tuple[object, str]
"""The task of one request, and a model that it waits for."""
TIMER_SLACK_NS = 10_000


@dataclass(frozen=True, slots=True)
class Stored:
    """What the oracle believes to be readable."""

    row: F32
    at_ms: int
    snapshot: int


def expected_before_waiting(policy: ModelPolicy, age_ms: int) -> tuple[Source, bool]:
    """Source (or fallback) and whether to wait; age -1: absent."""
    fresh = 0 <= age_ms <= policy.ages.direct_ttl_ms
    servable = 0 <= age_ms <= policy.ages.failover_ttl_ms
    if policy.mode is Mode.REALTIME:
        return Source.DEFAULT, True
    if fresh:
        return Source.DIRECT, False
    if policy.mode is Mode.ERCACHE:
        return (Source.FAILOVER if servable else Source.DEFAULT), True
    return (Source.STALE if servable else Source.DEFAULT), False


@dataclass
class Checker(Watcher):
    """Told of everything that happens; raises AssertionError at the first thing that is wrong."""

    policies: Mapping[str, ModelPolicy]
    limits: BatcherLimits
    pairs: PairChecker
    stored: dict[Key, Stored] = field(default_factory=dict[Key, Stored])
    invalidated_ns: dict[Key, int] = field(default_factory=dict[Key, int])
    waiting: dict[Caller, tuple[Key, int]] = field(default_factory=dict[Caller, tuple[Key, int]])
    attempts: dict[Attempts, int] = field(default_factory=dict[Attempts, int])
    latest: dict[Attempts, tuple[Caller, int]] = field(
        default_factory=dict[Attempts, tuple[Caller, int]]
    )
    ended_ns: dict[Caller, int] = field(default_factory=dict[Caller, int])
    asked_since: set[Key] = field(default_factory=set[Key])  # since the key was last computed
    running: set[Key] = field(default_factory=set[Key])
    last_call: Call | None = None
    background_ns: int = 0
    background: bool = False
    requests: int = 0
    fallbacks: int = 0
    retries: int = 0

    @classmethod
    def of(cls, setup: Setup) -> "Checker":
        """What holds in a world of that setup."""
        limits = setup.limits
        pairs = PairChecker(setup.pairs, setup.dtype, limits.background_share, limits.hang_after_ms)
        return cls(setup.policies, limits, pairs)

    def attach(self, world: World) -> None:
        """The world to look at; once."""
        self._world = world
        self.pairs.attach(world)

    # What the batcher and the engine do

    def asked(self, model: str, lane: Lane, due_ns: int) -> None:
        """A request asks again only for what has failed, and only while its wait lasts."""
        if lane is not Lane.WAIT:
            return
        request = asyncio.current_task(), model
        self.attempts[request] = self.attempts.get(request, 0) + 1
        if self.attempts[request] > 1:
            before, _ = self.latest[request]
            assert before.done() and isinstance(before.exception(), InferenceError)
            assert self._world.clock.monotonic_ns() < due_ns, "asked again after its wait"
            self.retries += 1

    def submitted(self, model: str, user: UserId, lane: Lane, due_ns: int, caller: Caller) -> None:
        self.asked_since.add((model, user))
        if lane is Lane.WAIT:
            self.waiting[caller] = ((model, user), due_ns)
            self.latest[asyncio.current_task(), model] = caller, due_ns
            caller.add_done_callback(self._ended)

    def _ended(self, caller: Caller) -> None:
        self.ended_ns[caller] = self._world.clock.monotonic_ns()

    def called(self, call: Call) -> None:
        self._previous_ended(call)
        keys = {(call.model, user) for user in call.users}
        assert len(keys) == len(call.users), f"a key twice in one batch: {call}"
        assert len(keys) <= self.limits.batch_limit
        never_asked = keys - self.asked_since
        assert not never_asked, f"computed without being asked for: {never_asked}"
        self.asked_since -= keys
        self.running = keys
        self._in_lane_order(keys, call.began_ns)
        self.last_call = call

    def _previous_ended(self, call: Call) -> None:
        before = self.last_call
        if before is None:
            return
        assert before.ended_ns >= 0, f"two batches at once: {before} and {call}"
        if self.background:
            took_ns = before.ended_ns - before.began_ns
            self.background_ns += min(took_ns, self.limits.hang_after_ms * MS)

    def _in_lane_order(self, keys: set[Key], now_ns: int) -> None:
        """A batch that nobody waits for begins only while nobody waits at all, and on credit."""
        live = {
            key
            for caller, (key, due_ns) in self.waiting.items()
            if due_ns > now_ns and _live(caller)
        }
        self.waiting = {c: entry for c, entry in self.waiting.items() if _live(c)}
        self.background = not keys & live
        if self.background:
            assert not live, f"background {keys} ran while {live} waited"
            allowed_ns = self.limits.background_share * now_ns + BURST_NS
            assert self.background_ns <= allowed_ns, "the background took more than its share"

    def landed(self, model: str, users: Sequence[UserId], served: F32, snapshot: int) -> None:
        now_ms = self._world.clock.wall_ms()
        call = self._world.engine.calls[snapshot]
        for user, row in zip(users, served, strict=True):
            invalidated_ns = self.invalidated_ns.get((model, user), -1)
            assert call.began_ns >= invalidated_ns, f"{user} landed from before its invalidation"
            self.stored[model, user] = Stored(row.copy(), now_ms, snapshot)

    def pairs_called(self, call: Call) -> None:
        self.pairs.called(call, self.background_ns)

    def pairs_landed(self, model: str, wanted: Sequence[UserItems], snapshot: int) -> None:
        self.pairs.landed(model, wanted, snapshot)

    def invalidate(self, users: Sequence[UserId]) -> None:
        """Invalidates in the server and in the oracle."""
        self.pairs.invalidate(users)
        now_ns = self._world.clock.monotonic_ns()
        removed = self._world.cache.invalidate(users, None)
        keys = [(model, user) for model in self.policies for user in users]
        assert removed == sum(self.stored.pop(key, None) is not None for key in keys)
        for key in keys:
            self.invalidated_ns[key] = now_ns
            if key in self.running:
                self.asked_since.add(key)  # may be computed again for those who wait

    # What a request sees

    def before(self, request: RankRequest) -> dict[str, UserRow]:
        """The oracle's answer at the instant of the request, as if nothing were waited for."""
        now_ms = self._world.clock.wall_ms()
        rows: dict[str, UserRow] = {}
        for model, policy in self.policies.items():
            entry = self.stored.get((model, request.user))
            age_ms = -1 if entry is None else now_ms - entry.at_ms
            source, _ = expected_before_waiting(policy, age_ms)
            if entry is None or source is Source.DEFAULT:
                rows[model] = UserRow(Source.DEFAULT, -1, np.array([-1, -1], dtype=np.float32))
            else:
                rows[model] = UserRow(source, age_ms, entry.row, entry.snapshot)
        return rows

    def after(
        self, request: RankRequest, reply: RankReply, expected: Mapping[str, UserRow], began_ns: int
    ) -> None:
        """The reply is on time, and each of its rows is the oracle's or a fresh computation."""
        now_ns = self._world.clock.monotonic_ns()
        latest_ns = max(began_ns, request.deadline_ns - RANK_RESERVE_NS)
        assert now_ns <= latest_ns + TIMER_SLACK_NS, "answered after the deadline"
        for model, row in reply.users.items():
            policy = self.policies[model]
            self._row(model, request, row, expected[model], policy)
            self._asked_often_enough(model, row, expected[model], policy)
            self.fallbacks += bool(row.reason)
        if not any(self.policies[model].mode in _WAITING for model in reply.users):
            assert now_ns == began_ns, "waited in a mode that never waits"
        assert reply.degraded == any(row.reason for row in reply.users.values())
        assert sorted(reply.order.tolist()) == list(range(len(request.item_hashes)))
        self.requests += 1

    def after_pairs(
        self, request: RankRequest, reply: RankReply, expected: Mapping[str, Expected]
    ) -> None:
        """The pairs of the reply are the oracle's, and the ranker has seen them."""
        self.pairs.after(request, reply, expected)
        self.pairs.ranked(self._world.ranker.batches[-1], reply)

    def _row(
        self, model: str, request: RankRequest, row: UserRow, before: UserRow, policy: ModelPolicy
    ) -> None:
        if row.source is Source.COMPUTED:
            assert policy.mode in _WAITING and before.source is not Source.DIRECT
            call = self._world.engine.calls[row.snapshot]
            assert call.model == model and request.user in call.users and not call.failed
            assert call.users.index(request.user) not in call.bad_rows
            assert row.row[1] <= row.snapshot and row.age_ms == 0
            return
        got = (row.source, row.age_ms, row.row.tobytes(), row.snapshot)
        assert got == (before.source, before.age_ms, before.row.tobytes(), before.snapshot)
        assert row.age_ms <= policy.ages.failover_ttl_ms, "an expired embedding was served"
        gave_up = policy.mode in _WAITING and before.source is not Source.DIRECT
        assert bool(row.reason) == gave_up, f"{row.source} for reason {row.reason!r}"

    def _asked_often_enough(
        self, model: str, row: UserRow, before: UserRow, policy: ModelPolicy
    ) -> None:
        """Once, and again after failures where there was only the default: up to the limit, or
        until an attempt did not fail."""
        request = asyncio.current_task(), model
        attempts = self.attempts.pop(request, 0)
        caller, due_ns = self.latest.pop(request, (None, 0))
        repeatable = policy.retries if before.source is Source.DEFAULT else 0
        assert attempts <= 1 + repeatable, f"asked {attempts} times with {before.source} at hand"
        if row.reason.startswith("failed") and attempts < 1 + repeatable:
            assert caller is not None
            ended_ns = self.ended_ns.get(caller, self._world.clock.monotonic_ns())
            assert ended_ns >= due_ns, f"gave up after {attempts} of {1 + repeatable} attempts"

    def at_the_end(self) -> None:
        """After the traffic has stopped and the engine has come back: nothing is left over."""
        world = self._world
        self.pairs.at_the_end()
        assert world.batcher.depths() == {"wait": 0, "refresh": 0}
        assert world.refresher.pending == 0
        counts = world.metrics.models.values()
        assert all(sum(model.served) == self.requests for model in counts)
        assert sum(model.fallbacks for model in counts) == self.fallbacks
        assert sum(model.retries for model in counts) == self.retries
        for (model, user), entry in self.stored.items():
            reading = world.cache.read(model, [user], 10**12)
            assert reading.rows[0].tobytes() == entry.row.tobytes()
            assert reading.snapshots[0] == entry.snapshot


_WAITING = (Mode.ERCACHE, Mode.REALTIME)


def _live(caller: Caller) -> bool:
    return not caller.done()
