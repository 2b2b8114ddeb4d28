"""Traffic and engines that speculation was not made for: the real parts, in virtual time."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from sim.engine import Step
from speculation_rig import Rig, play

from predawn.server.request import UserId
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.predictor import PredictorKind, PredictorLimits, predictor_of

TTL_MS = 20_000
LIMITS = PairLimits(TTL_MS, queue_limit=2_000, batch_users=4, batch_pairs=64)


def predictor(kind: PredictorKind, ttl_ms: int = TTL_MS) -> dict[str, object]:
    """Of model "m"."""
    limits = PredictorLimits(ttl_ms, users=512, items=2_048, popular=32)
    return {"predictors": {"m": predictor_of(kind, limits)}}


def per_pair(number: int, model: str, users: Sequence[UserId]) -> Step:
    """A quarter of a millisecond a pair."""
    return Step(latency_s=0.00025 * len(users))


def engine_share(rig: Rig, since_s: float) -> float:
    """Of the time since then."""
    calls = [each for each in rig.engine.pair_calls if each.began_ns >= since_s * 1e9]
    busy_ns = sum(each.ended_ns - each.began_ns for each in calls if each.ended_ns >= 0)
    return busy_ns / (rig.clock.monotonic_ns() - since_s * 1e9)


@pytest.mark.parametrize("kind", ["learned", "score", "recency", None])
def test_without_repeats_it_leaves_the_engine_alone_and_says_why(kind: PredictorKind) -> None:
    async def use(rig: Rig) -> None:
        for request in range(1_500):
            rig.ask(request % 40, range(10 * request, 10 * request + 10))
            await asyncio.sleep(0.02)

    limits = replace(LIMITS, ttl_ms=4_000)
    rig = play(use, per_pair, limits, **(predictor(kind, 4_000) if kind else {}))
    assert engine_share(rig, 20) < 0.05
    report = rig.speculator.report()["m"]
    if report["computed"] > 1_000:  # else the predictor knew it before
        assert "below break-even (2.0%)" in report["reason"]
    sentence = rig.speculator.counts()["m"].sentence
    assert sentence == report["reason"]


def test_with_repeats_it_goes_on() -> None:
    async def use(rig: Rig) -> None:
        for request in range(1_000):
            user = request % 40
            rig.ask(user, range(100 * user, 100 * user + 10))
            await asyncio.sleep(0.01)

    rig = play(use, per_pair, LIMITS)
    assert rig.speculator.report()["m"]["reason"] == ""
    assert rig.metrics.pairs["m"].missed["ok"] >= 400
    assert rig.metrics.pairs["m"].missed["unlikely"] == 0


def test_one_user_who_asks_a_hundred_times_as_often_starves_nobody() -> None:
    async def use(rig: Rig) -> None:
        rng = random.Random(0)
        for request in range(1_500):
            rig.ask("greedy", rng.sample(range(100_000), 10))
            if request % 5 == 0:
                user = request // 5 % 20
                rig.ask(user, range(20 * user, 20 * user + 10))
            await asyncio.sleep(0.005)
        await asyncio.sleep(1)
        for user in range(20):
            assert -1 not in rig.kept(user, range(20 * user, 20 * user + 10))

    limits = replace(LIMITS, pairs_per_asked=0.2, least_chance=0)
    play(use, per_pair, limits, **predictor("recency"))


def test_it_follows_when_what_is_popular_changes_at_once() -> None:
    async def use(rig: Rig) -> None:
        rng, direct = random.Random(0), [0, 0]
        for request in range(4_000):
            era = request // 2_000
            items = rng.sample(range(100 * era, 100 * era + 12), 6)
            rows = rig.ask(rng.randrange(400), items)
            if request % 2_000 > 1_500:
                direct[era] += rows.counts[0]
            await asyncio.sleep(0.01)
        assert min(direct) > 0.25 * 6 * 500
        assert direct[1] > 0.75 * direct[0]

    limits = replace(LIMITS, ttl_ms=10_000)
    rig = play(use, per_pair, limits, **predictor("learned", 10_000))
    assert rig.proposed()["ok"] > 300


@pytest.mark.parametrize("moved_ms", [-3_600_000, 3_600_000])
def test_a_clock_that_jumps_stops_nothing(moved_ms: int) -> None:
    async def use(rig: Rig) -> None:
        for request in range(600):
            if request == 200:
                rig.clock.moved_ms = moved_ms
            rig.ask(request % 20, range(10))
            await asyncio.sleep(0.01)
        rig.ask("new", [1, 2])
        await asyncio.sleep(0.5)
        assert -1 not in rig.kept("new", [1, 2])

    play(use, per_pair, LIMITS, **predictor("learned"))


def test_a_cold_start_never_spends_more_than_was_asked() -> None:
    async def use(rig: Rig) -> None:
        for request in range(300):
            rig.ask(request, [request % 7, 7 + request % 11])
            await asyncio.sleep(0.001)
            budget = rig.speculator.models["m"].planner.budget
            assert budget.spent_pairs <= 0.5 * budget.asked_pairs

    play(use, per_pair, replace(LIMITS, pairs_per_asked=0.5), **predictor("learned"))


def test_a_full_store_holds_no_more_unread_pairs_than_it_may() -> None:
    async def use(rig: Rig) -> None:
        rng, ledger = random.Random(0), rig.speculator.models["m"].planner.ledger
        for request in range(800):
            rig.ask(rng.randrange(200), rng.sample(range(20), 5))
            await asyncio.sleep(0.002)
            assert ledger.unread_ahead <= 0.25 * 128
            if request % 500 == 0:
                rig.check()

    limits = replace(LIMITS, entries=0.25, pairs_per_asked=3)
    play(use, per_pair, limits, capacity=128, **predictor("learned"))


def test_an_invalidation_while_it_computes_voids_what_began_before() -> None:
    async def use(rig: Rig) -> None:
        rng = random.Random(0)
        for _ in range(1_000):
            user = rng.randrange(8)
            rig.ask(user, rng.sample(range(12), 4))
            await asyncio.sleep(0.003)
            if rng.random() < 0.2:
                number = len(rig.engine.pair_calls)
                rig.cache.invalidate([user], None)
                assert rig.kept(user, range(12)) == [-1] * 12
                await asyncio.sleep(0.002)
                assert all(call == -1 or call >= number for call in rig.kept(user, range(12)))

    rig = play(use, limits=LIMITS, **predictor("learned"))
    assert rig.ends()["void"] > 0


def test_an_engine_that_fails_is_left_alone_longer_each_time_and_found_again() -> None:
    def script(number: int, model: str, users: Sequence[UserId]) -> Step:
        return Step(latency_s=0.001, error="broken" if number < 12 else "")

    async def use(rig: Rig) -> None:
        for request in range(3_000):
            rig.ask(request % 10, [1, 2, 3])
            await asyncio.sleep(0.1)
        assert rig.kept(0, [1, 2, 3]) != [-1] * 3

    rig = play(use, script, replace(LIMITS, ttl_ms=300_000))
    began = [call.began_ns for call in rig.engine.pair_calls[:13]]
    pauses = [(after - before) / 1e9 for before, after in pairwise(began)]
    for number, pause_s in enumerate(pauses):
        nominal_s = min(30.0, 0.05 * 2**number)
        assert 0.5 * nominal_s <= pause_s <= 1.5 * nominal_s + 0.11
    assert rig.ends()["failed"] > 0


def test_a_slow_engine_takes_its_share_and_the_queues_stay_bounded() -> None:
    async def use(rig: Rig) -> None:
        for request in range(800):
            rig.ask(request, range(20))
            assert rig.speculator.waiting()["m"] <= 2 * LIMITS.queue_limit
            await asyncio.sleep(0.005)

    script = lambda number, model, users: Step(latency_s=0.4)  # noqa: E731
    rig = play(use, script, replace(LIMITS, least_chance=0), **predictor("recency"))
    assert 0.3 < engine_share(rig, 0) <= 0.55


def test_a_stop_leaves_every_issued_pair_with_at_most_one_end() -> None:
    async def use(rig: Rig) -> None:
        for request in range(50):
            rig.ask(request, range(10))
        await asyncio.sleep(0.007)  # a slice is on the engine

    rig = play(use, limits=LIMITS)
    ledger = rig.speculator.models["m"].planner.ledger
    ended = int(ledger.counted().outcomes.sum())
    assert ledger.open + ended == ledger.counted().issued.sum() > 0


def test_two_pair_models_and_a_rate_share_the_engine() -> None:
    async def use(rig: Rig) -> None:
        for request in range(400):
            rig.ask(request, range(5), "m")
            rig.ask(request, range(5), "n")
            await asyncio.sleep(0.01)

    rig = play(use, per_pair, replace(LIMITS, pairs_per_second=100, least_chance=0))
    seconds = rig.clock.monotonic_ns() / 1e9
    for model in "mn":
        assert 0.8 * 100 * seconds <= rig.metrics.pairs[model].missed["ok"] <= 100 * (seconds + 1)
