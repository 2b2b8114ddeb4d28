from typing import Any

import numpy as np
import pytest
from replay_cases import day, visits

from predawn.server.refresher import Refresher
from predawn.server.replay.embeddings import embeddings_of
from predawn.server.replay.options import ReplayOptions
from predawn.server.replay.recording import Recording
from predawn.server.replay.world import MODEL, World
from predawn.server.request import Source
from predawn.server.simloop import SimLoop, simulate
from predawn.server.traces import Trace

HOUR_MS = 3_600_000


def run(trace: Trace, **options: Any) -> World:
    loop = SimLoop()
    chosen = ReplayOptions(**options)
    embeddings, ranker = embeddings_of(trace, None)
    world = World(trace, chosen, embeddings, ranker, loop, lambda share: None)
    simulate(world.run(), loop)
    return world


def same(one: Recording, other: Recording) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("source", "age_ms", "failed", "took_ns", "rows")
    )


def sources(world: World) -> list[str]:
    return [Source(int(source)).label for source in world.recording.source]


@pytest.mark.parametrize("mode", ["realtime", "ercache", "soap", "batch", "frozen"])
def test_the_same_seed_gives_the_same_answers(mode: str) -> None:
    trace = day().slice(0, 500)
    options = {"mode": mode, "failure_rate": 0.2, "hang_rate": 0.01, "capacity": 32}
    assert same(run(trace, **options, seed=3).recording, run(trace, **options, seed=3).recording)


def test_another_seed_gives_other_failures() -> None:
    trace = day().slice(0, 500)
    one, other = (run(trace, mode="realtime", failure_rate=0.2, seed=s).recording for s in (1, 2))
    assert not same(one, other)


@pytest.mark.parametrize("mode", ["realtime", "ercache", "soap", "batch", "frozen"])
def test_every_request_is_counted_once_and_the_store_stays_sound(mode: str) -> None:
    trace = day()
    world = run(trace, mode=mode)
    counted = world.metrics.models[MODEL]
    assert sum(counted.served) == len(trace)
    assert counted.served == np.bincount(world.recording.source, minlength=len(Source)).tolist()
    assert world.cache.check() == []


def test_soap_never_waits_and_serves_the_previous_embedding() -> None:
    world = run(visits([(0, 1), (1_000, 1), (400_000, 1), (400_500, 1)]), mode="soap")
    assert sources(world) == ["default", "direct", "stale", "direct"]
    assert world.recording.took_ns.max() == 0
    assert world.recording.age_ms[3] < 500


def test_ercache_waits_for_the_first_and_serves_the_rest() -> None:
    world = run(visits([(0, 1), (1_000, 1), (400_000, 1)]), mode="ercache")
    assert sources(world) == ["computed", "direct", "computed"]
    assert world.recording.took_ns[0] > 4_000_000 and world.recording.took_ns[1] == 0


def test_failed_computes_are_covered_by_the_failover_entry() -> None:
    trace = visits([(0, 1), (400_000, 1), (8_000_000, 1)])
    world = run(trace, mode="ercache", failure_rate=1.0)
    assert sources(world) == ["default", "default", "default"]
    assert world.recording.failed.all()


def test_a_hung_engine_leaves_no_request_late() -> None:
    world = run(day(), mode="ercache", hang_rate=0.2, hang_s=30.0)
    assert world.recording.took_ns.max() <= 50_000_000
    assert world.recording.failed.any()


def test_a_background_part_that_dies_ends_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Refresher) -> None:
        raise ValueError("the sweeps broke")

    monkeypatch.setattr(Refresher, "run", broken)
    with pytest.raises(ValueError, match="the sweeps broke"):
        run(visits([(0, 1)]))


def test_a_small_store_forgets() -> None:
    hits = {
        capacity: sources(run(day(), mode="ercache", direct_ttl_ms=6 * HOUR_MS, capacity=capacity))
        for capacity in (16, 1_000_000)
    }
    assert hits[16].count("direct") < 0.95 * hits[1_000_000].count("direct")


def test_frozen_computes_known_users_once_after_the_warm_up() -> None:
    trace = visits([(0, 1), (HOUR_MS, 1), (2 * HOUR_MS, 2), (4 * HOUR_MS, 1)])
    world = run(trace, mode="frozen", warm_up=0.4)
    assert sources(world) == ["default", "default", "default", "stale"]
    assert world.recording.age_ms[3] == pytest.approx(2.4 * HOUR_MS, abs=100)
    assert world.metrics.models[MODEL].computed() == 1


def test_batch_recomputes_everyone_every_period() -> None:
    trace = visits([(0, 1), (90 * 60_000, 1), (5 * HOUR_MS, 1)])
    world = run(trace, mode="batch", batch_every_ms=HOUR_MS, direct_ttl_ms=0)
    assert sources(world)[0] == "default"
    assert sources(world)[1:] == ["stale", "stale"]
    assert world.recording.age_ms[1:].max() <= HOUR_MS
    assert 4 <= world.metrics.models[MODEL].computed() <= 6


def test_averaging_mixes_the_newest_embeddings() -> None:
    trace = day().slice(0, 300)
    plain, mixed = (run(trace, mode="ercache", average_over=n).recording for n in (1, 3))
    assert np.array_equal(plain.source, mixed.source)
    assert not np.array_equal(plain.rows, mixed.rows)
