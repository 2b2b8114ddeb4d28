"""One model's planner: what is worth computing, what it costs, and how the rest ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from predawn.server.metrics import Metrics
from predawn.server.request import F32, I64, U8, U64, Source, UserId
from predawn.server.speculation.contract import NOTHING, Origin, Proposal
from predawn.server.speculation.ledger import Ledger, LedgerLimits
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.planner import Planner

MS = 1_000_000
TTL_MS = 64_000
LIMITS = PairLimits(TTL_MS, queue_limit=100, batch_users=4, batch_pairs=20, least_chance=0.02)


@dataclass
class Shelf:
    """A store: ages by (user, item), and the level of everything else."""

    ages_ms: dict[tuple[UserId, int], int] = field(default_factory=dict)
    level: Source = Source.DEFAULT

    def peek(self, model: str, user: UserId, items: U64, max_age_ms: int) -> I64:
        ages = [self.ages_ms.get((user, item), -1) for item in items.tolist()]
        return np.array([age if age <= max_age_ms else -1 for age in ages], dtype=np.int64)

    def levels(self, model: str, user: UserId, items: U64, vector: F32 | None = None) -> U8:
        return np.full(len(items), self.level, dtype=np.uint8)


@dataclass
class Table:
    """A predictor: chances by item, the same for everybody."""

    chances: dict[int, float]
    heard: list[tuple[UserId, list[int], list[int]]] = field(default_factory=list)

    def asked(self, user: UserId, items: U64, scores: F32, known: U8, now_ms: int) -> None:
        self.heard.append((user, items.tolist(), known.tolist()))

    def propose(
        self, user: UserId, now_ms: int, limit: int, least: float = 0.0, missed: U64 = NOTHING
    ) -> Proposal:
        waiting = missed.tolist()
        others = {item: p for item, p in self.chances.items() if item not in waiting}
        best = sorted(others, key=others.__getitem__, reverse=True)[:limit]
        chances = [self.chances.get(item, -1) for item in waiting + best]
        origins = [Origin.MISSED] * len(waiting) + [Origin.POPULAR] * len(best)
        return Proposal(
            user,
            np.array(waiting + best, dtype=np.uint64),
            np.array(chances, dtype=np.float32),
            np.array(origins, dtype=np.uint8),
        )

    def report(self) -> dict[str, Any]:
        return {"table": len(self.chances)}


class Rig:
    """A planner with money."""

    def __init__(
        self, chances: dict[int, float] | None, limits: PairLimits = LIMITS, tokens: int = 1_000
    ) -> None:
        self.metrics, self.shelf = Metrics([], [], ["m"]), Shelf()
        self.table = None if chances is None else Table(chances)
        ledger = Ledger(LedgerLimits(1_000, TTL_MS), self._ages, 1)
        self.planner = Planner(
            "m", limits, self.table, ledger, self.shelf, self.metrics, (0, 0), seed=1
        )
        self.planner.budget.asked(tokens)

    def _ages(self, user: UserId, items: U64) -> I64:
        return self.shelf.peek("m", user, items, 10**9)

    def ask(
        self, user: UserId, items: Sequence[int], known: Sequence[int] = (), now_ms: int = 1
    ) -> None:
        hashes = np.array(items, dtype=np.uint64)
        found = [Source.DIRECT if item in known else Source.DEFAULT for item in items]
        sources = np.array(found, dtype=np.uint8)
        scores = np.zeros(len(items), dtype=np.float32)
        self.planner.asked(user, hashes, scores, sources, (), now_ms * MS, now_ms)

    def take(self, now_ms: int = 1) -> list[tuple[UserId, list[int], list[int]]]:
        """Plans everything, then one slice: user, items, origins."""
        while self.planner.unplanned:
            self.planner.plan(now_ms * MS, now_ms)
        return [
            (each.user, each.pairs.items.tolist(), each.pairs.origins.tolist())
            for each in self.planner.take(now_ms * MS, now_ms)
        ]

    def ends(self) -> tuple[dict[str, int], dict[str, int]]:
        counts = self.metrics.pairs["m"]
        both = [{k: n for k, n in each.items() if n} for each in (counts.missed, counts.proposed)]
        return both[0], both[1]


def test_without_a_predictor_missed_pairs_are_computed_and_nothing_else() -> None:
    rig = Rig(None)
    rig.ask(7, [1, 2, 3], known=[2])
    rig.ask(8, [1], known=[1])
    assert rig.take() == [(7, [1, 3], [0, 0])]
    assert rig.planner.budget.spent_pairs == 2
    assert not rig.planner.hint(7, 0)


def test_a_user_has_his_missed_and_his_proposed_pairs_the_most_likely_first() -> None:
    rig = Rig({1: 0.5, 9: 0.8, 8: 0.3})
    rig.ask("u", [1, 2], known=[2])
    assert rig.table is not None and rig.table.heard == [("u", [1, 2], [0, 1])]
    assert rig.take() == [("u", [9, 1, 8], [Origin.POPULAR, Origin.MISSED, Origin.POPULAR])]
    assert rig.planner.ledger.counted().issued.tolist() == [1, 0, 2, 0]


def test_what_is_in_the_store_is_not_computed_until_its_end_is_near() -> None:
    rig = Rig({1: 0.5, 2: 0.5, 3: 0.5})
    rig.shelf.ages_ms = {("u", 1): 0, ("u", 2): TTL_MS - TTL_MS // 16 + 1}
    rig.ask("u", [4])
    assert {item for _, items, _ in rig.take() for item in items} == {2, 3, 4}
    assert rig.ends()[1] == {"filtered": 1}


def test_what_landed_after_it_was_planned_is_not_computed_again() -> None:
    rig = Rig(None)
    rig.ask("u", [1, 2])
    rig.planner.plan(MS, 1)
    rig.shelf.ages_ms = {("u", 1): 0}
    assert rig.take() == [("u", [2], [0])]
    assert rig.ends()[0] == {"filtered": 1}
    assert rig.planner.budget.spent_pairs == 1


def test_a_pair_that_would_be_filled_well_is_worth_less() -> None:
    fill_value = {Source.NEIGHBOUR: 0.75}
    limits = PairLimits(TTL_MS, batch_pairs=20, least_chance=0.2, fill_value=fill_value)
    rig = Rig({1: 0.9, 2: 0.5}, limits)
    rig.shelf.level = Source.NEIGHBOUR
    rig.ask("u", [3], known=[3])
    assert rig.take() == [("u", [1], [Origin.POPULAR])]
    assert rig.ends()[1] == {"below_price": 1}


def test_unlikely_pairs_are_left_to_a_small_sample() -> None:
    rig = Rig({item: 0.01 for item in range(1, 11)})
    for number in range(100):
        rig.ask("u", [100 + number], known=[100 + number], now_ms=1 + 100 * number)
        rig.take(1 + 100 * number)
    computed = rig.planner.budget.spent_pairs
    assert computed == rig.planner.budget.asked_pairs * 0.01 // 1 - 10  # the money of the rig is 10
    assert rig.ends()[1]["unlikely"] == 10 * 100 - computed


def test_a_user_who_misses_nothing_is_looked_at_once_in_a_while() -> None:
    rig = Rig({1: 0.5})
    rig.ask("u", [2], known=[2])
    rig.take()
    rig.ask("u", [2], known=[2], now_ms=30)
    assert (rig.planner.unplanned, rig.planner.hint("u", 30 * MS)) == (0, False)
    assert rig.planner.hint("u", 1_000 * MS)
    assert rig.planner.unplanned == 1


def test_every_candidate_ends_once() -> None:
    rng = np.random.default_rng(0)
    rig = Rig({item: item / 60 for item in range(1, 40)}, tokens=0)
    computed = missed = 0
    for number in range(400):
        items = rng.choice(60, 6, replace=False).tolist()
        rig.ask(int(rng.integers(6)), items, known=items[:2], now_ms=50 * number)
        missed += 4
        taken = rig.take(50 * number)
        computed += sum(len(items) for _, items, _ in taken)
        for user, found, origins in taken:
            for item, origin in zip(found, origins, strict=True):
                rig.shelf.ages_ms[user, item] = 0
                rig.planner.ended("ok", np.array([origin], dtype=np.uint8))
    of_missed, of_proposed = rig.ends()
    waiting = len(rig.planner)
    assert sum(of_missed.values()) <= missed <= sum(of_missed.values()) + waiting
    assert of_missed["ok"] + of_proposed["ok"] == computed == rig.planner.budget.spent_pairs
    assert computed <= rig.planner.budget.asked_pairs


def test_settling_tells_the_throttle_what_was_used() -> None:
    rig = Rig(None)
    rig.ask(7, [1, 2, 3])
    rig.take()
    rig.planner.ledger.landed(7, np.array([1, 2, 3], dtype=np.uint64), 2)
    rig.ask(7, [1, 2], known=[1, 2], now_ms=5)
    rig.planner.settle(10)
    assert rig.planner.throttle.chance(Origin.MISSED) > 2 * 0.02


def test_the_report_says_what_a_hit_costs() -> None:
    rig = Rig({1: 0.5})
    report = rig.planner.report()
    assert report["pairs_per_hit"] == 1 / report["price"]
    assert report["predictor"] == {"table": 1}
    assert (report["asked"], report["computed"], report["reason"]) == (1_000, 0, "")
    assert rig.planner.counts().throttle == 1
