"""What must hold of pairs in every run: no embedding of another user or item, none too old, none
from before an invalidation, and every missed pair accounted for.

The oracle is a dictionary per (model, user, item): nothing of the server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sim.engine import Call, user_number
from sim.world import MS, World

from predawn.server.batcher_share import BURST_NS
from predawn.server.request import F32, RankBatch, RankReply, RankRequest, Source, UserId, UserItems
from predawn.server.speculation.limits import PairLimits

Pair = tuple[str, UserId, int]


@dataclass(frozen=True, slots=True)
class Kept:
    """What the oracle believes to be readable."""

    row: tuple[float, ...]
    at_ms: int


@dataclass
class Expected:
    """Of one pair model and request: row and age of each candidate, age -1: the default."""

    rows: list[tuple[float, ...]]
    ages_ms: list[int]


@dataclass
class PairChecker:
    """Told of everything that happens to pairs; raises at the first thing that is wrong."""

    limits: Mapping[str, PairLimits]
    dtype: str
    share: float
    hang_after_ms: int
    kept: dict[Pair, Kept] = field(default_factory=dict[Pair, Kept])
    invalidated_ns: dict[UserId, int] = field(default_factory=dict[UserId, int])
    missed_ns: dict[Pair, int] = field(default_factory=dict[Pair, int])
    asked: int = 0
    direct: int = 0
    missed: int = 0

    def attach(self, world: World) -> None:
        """The world to look at; once."""
        self._world = world

    # What is computed

    def called(self, call: Call, refreshes_ns: int) -> None:
        """One batch at a time, of pairs that were missed, within the limits and within what the
        refreshes so far have left of the share."""
        limits, now_ns = self.limits[call.model], call.began_ns
        pairs = [(call.model, *pair) for pair in zip(call.users, call.items, strict=True)]
        before = self._world.engine.pair_calls[:-1]
        assert all(each.ended_ns >= 0 for each in before), "two batches of pairs at once"
        assert len(set(pairs)) == len(pairs) <= limits.batch_pairs
        assert len(set(call.users)) <= limits.batch_users
        for pair in pairs:
            waited_ns = now_ns - self.missed_ns.pop(pair)  # KeyError: nobody has missed it
            assert waited_ns <= limits.ttl_ms * MS, f"{pair} was computed after {waited_ns} ns"
        used_ns = refreshes_ns + self._pairs_ns()
        assert used_ns <= self.share * now_ns + BURST_NS, "more than refreshes left over"

    def _pairs_ns(self) -> int:
        """Engine time of the batches that have ended, a hang for as much as is charged."""
        most_ns = self.hang_after_ms * MS
        ended = [call for call in self._world.engine.pair_calls if call.ended_ns >= 0]
        return sum(min(call.ended_ns - call.began_ns, most_ns) for call in ended)

    def landed(self, model: str, wanted: Sequence[UserItems], snapshot: int) -> None:
        call = self._world.engine.pair_calls[snapshot]
        rows = list(zip(call.users, call.items, strict=True))
        assert not call.failed and call.model == model
        for each in wanted:
            assert call.began_ns >= self.invalidated_ns.get(each.user, -1), "from before"
            for item in each.item_hashes.tolist():
                assert rows.index((each.user, item)) not in call.bad_rows
                row = self._rounded([user_number(each.user), item, call.number])
                self.kept[model, each.user, item] = Kept(row, self._world.clock.wall_ms())

    def _rounded(self, values: list[float]) -> tuple[float, ...]:
        stored = np.array(values, dtype=np.float16 if self.dtype == "fp16" else np.float32)
        return tuple(stored.astype(np.float32).tolist())

    def invalidate(self, users: Sequence[UserId]) -> None:
        """Invalidates in the server and in the oracle."""
        self._world.pairs.invalidate(users, None)
        now_ns = self._world.clock.monotonic_ns()
        self.kept = {pair: kept for pair, kept in self.kept.items() if pair[1] not in users}
        self.invalidated_ns |= dict.fromkeys(users, now_ns)

    # What a request sees

    def before(self, request: RankRequest) -> dict[str, Expected]:
        """The oracle's answer at the instant of the request."""
        return {model: self._expected(model, request) for model in self.limits}

    def _expected(self, model: str, request: RankRequest) -> Expected:
        expected, now_ms = Expected([], []), self._world.clock.wall_ms()
        invalidated_ns = self.invalidated_ns.get(request.user, -MS)
        offset_ms = now_ms - self._world.clock.monotonic_ns() // MS
        for item in request.item_hashes.tolist():
            kept = self.kept.get((model, request.user, item))
            # What landed in the millisecond of an invalidation counts as older.
            late = kept is not None and kept.at_ms > invalidated_ns // MS + offset_ms
            if kept is not None and late and now_ms - kept.at_ms <= self.limits[model].ttl_ms:
                expected.rows.append(kept.row)
                expected.ages_ms.append(now_ms - kept.at_ms)
            else:
                expected.rows.append((-1.0, -1.0, -1.0))
                expected.ages_ms.append(-1)
        return expected

    def after(
        self, request: RankRequest, reply: RankReply, expected: Mapping[str, Expected]
    ) -> None:
        """Each candidate has the oracle's row, age and source, in the reply and for the ranker."""
        assert list(reply.pairs) == list(self.limits)
        now_ns = self._world.clock.monotonic_ns()
        for model, rows in reply.pairs.items():
            wanted = expected[model]
            assert [tuple(row) for row in rows.rows.tolist()] == wanted.rows
            assert rows.ages_ms.tolist() == wanted.ages_ms
            absent = [age_ms < 0 for age_ms in wanted.ages_ms]
            sources = [Source.DEFAULT if each else Source.DIRECT for each in absent]
            assert rows.sources.tolist() == sources
            assert sum(rows.counts) == len(sources)
            assert rows.counts[Source.DIRECT] == sources.count(Source.DIRECT)
            self.asked += len(sources)
            self.direct += sources.count(Source.DIRECT)
            for item, missed in zip(request.item_hashes.tolist(), absent, strict=True):
                if missed:
                    self.missed += 1
                    self.missed_ns[model, request.user, item] = now_ns

    def ranked(self, batch: RankBatch, reply: RankReply) -> None:
        """The ranker saw the rows of the reply, model beside model."""
        columns: list[F32] = [rows.rows for rows in reply.pairs.values()]
        if columns:
            assert batch.pairs.tolist() == np.concatenate(columns, axis=1).tolist()
            sources = np.stack([rows.sources for rows in reply.pairs.values()], axis=1)
            assert batch.pair_sources.tolist() == sources.tolist()

    def at_the_end(self) -> None:
        """After the traffic has stopped: all is accounted for once, or waits for its budget."""
        world = self._world
        waiting = sum(world.speculator.waiting().values())
        counts = world.metrics.pairs.values()
        assert sum(sum(pairs.served) for pairs in counts) == self.asked
        assert sum(pairs.served[Source.DIRECT] for pairs in counts) == self.direct
        assert sum(pairs.age_ms.count for pairs in counts) == self.direct
        assert sum(sum(pairs.missed.values()) for pairs in counts) + waiting == self.missed
