from functools import cache
from typing import Any

import numpy as np
import pytest
from replay_cases import day, replayed

from predawn.server.replay import PairCost, PairOptions
from predawn.server.replay.embeddings import embeddings_of
from predawn.server.replay.options import ReplayOptions
from predawn.server.replay.pair_asks import asks_of
from predawn.server.replay.pair_embeddings import pair_embeddings_of
from predawn.server.replay.pair_plain import MissesOnly, run, terms_of
from predawn.server.replay.pair_world import PAIRS, PairWorld
from predawn.server.replay.run import warmed_up
from predawn.server.replay.world import World
from predawn.server.request import Source
from predawn.server.simloop import SimLoop, simulate
from predawn.server.traces import Trace

HOUR_MS = 3_600_000


def hours() -> Trace:
    """The first ten hours of the day."""
    return day().slice(0, 500)


@cache
def figures(seed: int = 0, **pairs: Any) -> dict[str, Any]:
    """Of `hours` under options that have room and no fills, but for `pairs`."""
    room: dict[str, Any] = {"capacity": 20_000, "fills": ()}
    options = PairOptions(**(room | pairs))
    return replayed(hours(), pairs=options, seed=seed).pairs[PAIRS]


def world_of(options: PairOptions) -> PairWorld:
    loop, trace = SimLoop(), hours()
    embeddings, ranker = embeddings_of(trace, None, true_pairs=True, pairs=True)
    chosen = ReplayOptions(pairs=options)

    def made(*parts: Any) -> PairWorld:
        return PairWorld(trace, options, pair_embeddings_of(trace, None), 10.0, 0, *parts)

    world = World(trace, chosen, embeddings, ranker, loop, lambda share: None, pairs=made)
    simulate(world.run(), loop)
    assert isinstance(world.pairs, PairWorld)
    return world.pairs


@pytest.mark.parametrize("predictor", ["learned", "score", "recency", "none"])
def test_pairs_add_up(predictor: str) -> None:
    found = figures(predictor=predictor, fills=("neighbour", "user_mean"))
    assert sum(found["sources"].values()) == found["asked"]
    assert found["coverage_exact"] * found["asked"] == pytest.approx(found["sources"]["direct"])
    assert found["coverage_exact"] <= found["coverage_with_fills"] <= 1
    assert found["fm_pairs_computed"] / found["asked"] == found["budget_used"]
    levels = found["loss"]["levels"].values()
    assert sum(level["share"] for level in levels) == pytest.approx(1)
    ledger = found["speculation"]["ledger"]
    assert sum(ledger["sources"].values()) == ledger["asked"] == hours().rows


def test_misses_only_is_what_plain_dictionaries_make_of_it_but_for_what_is_in_flight() -> None:
    asks = asks_of(hours(), warmed_up(hours(), 0.25))
    ttl_ms = PairOptions().ttl_ms
    plain = run(asks, terms_of(asks, 1.0, ttl_ms, 1_000_000), MissesOnly()).figures(asks)
    found = figures(predictor="none", cost=PairCost(0.001, 0.01))
    assert found["coverage_exact"] == pytest.approx(plain["coverage_exact"], abs=0.002)
    assert found["budget_used"] == pytest.approx(plain["budget_used"], abs=0.004)
    assert found["waste"] == pytest.approx(plain["waste"], abs=0.01)
    slow = figures(predictor="none", cost=PairCost(100.0, 30_000.0))
    assert slow["coverage_exact"] < plain["coverage_exact"] - 0.05


def test_what_is_served_as_direct_is_the_embedding_of_that_pair_at_that_age() -> None:
    world, trace = world_of(PairOptions(capacity=20_000, fills=())), hours()
    recording, truth = world.recording, trace.truth
    assert truth is not None
    asks = asks_of(trace)
    direct = np.flatnonzero(recording.sources == Source.DIRECT)[::7]
    assert len(direct) > 50
    for row in direct.tolist():
        mine = np.flatnonzero(asks.user == asks.user[asks.request[row]])
        then = asks.row_t_ms[row] - recording.ages_ms[row]
        newest = mine[asks.t_ms[mine] <= then][-1]
        made = truth.user_vectors[newest].astype(np.float32)
        expected = made * truth.item_vectors[int(trace.items[row])]
        assert recording.rows[row].astype(np.float32) == pytest.approx(expected, abs=2e-3)
    assert world.cache.check() == []


def test_the_same_seed_gives_the_same_pairs() -> None:
    options: dict[str, Any] = {
        "failure_rate": 0.1,
        "hang_rate": 0.01,
        "capacity": 4096,
        "budget": 0.7,
    }
    one, again = (figures.__wrapped__(seed=3, **options) for _ in range(2))
    assert one == again
    assert figures(seed=4, **options) != one


def test_the_budget_is_kept_and_more_of_it_covers_more() -> None:
    found = [figures(budget=budget) for budget in (0.1, 0.4, 1.0)]
    for each in found:
        assert each["budget_used"] <= each["budget"] + 0.02
    covered = [each["coverage_exact"] for each in found]
    assert covered == sorted(covered) and covered[0] < covered[-1] - 0.1


def test_ttl_and_capacity_bound_what_is_there() -> None:
    usual = figures()["coverage_exact"]
    assert figures(ttl_ms=HOUR_MS // 4)["coverage_exact"] < usual - 0.01
    assert figures(capacity=256)["coverage_exact"] < usual - 0.01


def test_fills_are_those_asked_for_in_the_order_given() -> None:
    assert set(figures()["loss"]["levels"]) == {"direct", "default"}
    found = figures(fills=("neighbour", "user_mean"))["sources"]
    assert found["neighbour"] > 0 < found["user_mean"]
    other = figures(fills=("user_mean", "neighbour"))["sources"]
    assert other["neighbour"] < found["neighbour"]
    clusters = figures(fills=("neighbour",), neighbours="clusters")["sources"]
    assert 0 < clusters["neighbour"] != found["neighbour"]
    recent = figures(fills=("recent",), recent_length=4)["sources"]
    assert recent["recent"] > 0 == recent["user_mean"]


def test_the_engine_costs_fails_and_hangs_as_it_is_told_to() -> None:
    usual = figures()
    dear = figures(cost=PairCost(per_pair_ms=5.0, encode_ms=100.0))
    assert dear["engine"]["busy_s"] > 5 * usual["engine"]["busy_s"]
    failing = figures(failure_rate=0.5)
    assert failing["engine"]["failed"] > 0 == usual["engine"]["failed"]
    assert failing["coverage_exact"] < usual["coverage_exact"]
    hanging = figures(hang_rate=0.2)
    assert hanging["engine"]["busy_s"] > usual["engine"]["busy_s"] + 100
