import json
import os
from pathlib import Path

import pytest
from replay_cases import TickingClock, day, replayed

from predawn.server.replay import ReplayOptions, replay
from predawn.server.traces import read_trace

DATA = Path(os.environ.get("PREDAWN_DATA", Path(__file__).parents[4] / "shared" / "data"))


def test_wall_time_comes_from_the_clock_and_virtual_time_from_the_trace() -> None:
    trace = day().slice(0, 100)
    report = replayed(trace)
    assert report.wall_s == 1.0
    assert report.virtual_s == pytest.approx((trace.t_ms[-1] - trace.t_ms[0]) / 1000)
    assert (report.requests, report.users) == (100, len(trace.user_indices()[0]))


def test_the_store_makes_fallbacks_several_times_rarer() -> None:
    report = replayed(day(), mode="ercache", failure_rate=0.1, failover_ttl_ms=6 * 3_600_000)
    model = report.models["user"]
    assert model.fallbacks_per_request_without_store == pytest.approx(0.1, abs=0.02)
    assert model.fallbacks_per_request < 0.1 / 3


def test_a_direct_ttl_saves_soap_most_of_its_recomputes() -> None:
    every, young = (
        replayed(day(), mode="soap", direct_ttl_ms=ttl).models["user"] for ttl in (0, 300_000)
    )
    assert every.inferences_saved_share < 0.02
    assert young.inferences_saved_share > 0.60
    assert young.inferences_saved == len(day()) - young.inferences


def test_the_comparison_orders_the_ways_to_serve_as_sum_does() -> None:
    report = replayed(day(), compare_modes=True)
    loss = {name: model.loss["normalised_entropy"] or 0 for name, model in report.compare.items()}
    assert loss["realtime"] <= loss["ercache"] + 0.002
    assert loss["ercache"] < loss["soap"] < loss["batch"] < loss["frozen"] <= 1.0
    assert loss["soap_ttl"] == pytest.approx(loss["soap"], abs=0.01)
    counted = {model.requests for model in report.compare.values()}
    assert len(counted) == 1 and 0 < counted.pop() < len(day())
    inferences = {name: model.inferences for name, model in report.compare.items()}
    assert inferences["frozen"] <= inferences["ercache"] < inferences["realtime"]
    assert inferences["soap_ttl"] == pytest.approx(inferences["ercache"], rel=0.02)


def test_progress_is_told_for_every_replay() -> None:
    told: list[tuple[str, float]] = []
    replay(
        day().slice(0, 50),
        ReplayOptions(mode="ercache", failure_rate=0.5, compare_modes=True),
        TickingClock(),
        lambda what, share: told.append((what, share)),
    )
    done = [what for what, share in told if share == 1.0]
    assert done[:2] == ["ercache", "without store"]
    assert done[2:] == ["frozen", "batch", "realtime", "ercache", "soap", "soap_ttl"]


def test_kuairand_events_replay() -> None:
    path = DATA / "kuairand-likehate" / "processed_standard_kcore_15.tsv.gz"
    if not path.exists():
        pytest.skip("needs the shared data: kuairand-likehate (set PREDAWN_DATA)")
    trace = read_trace(path).slice(0, 4_000)
    report = replayed(trace, mode="ercache", direct_ttl_ms=60_000, oracle=True)
    assert report.oracle is not None
    model = report.models["user"]
    expected = report.oracle["direct_hit_rate"] - report.oracle["in_flight"]
    assert model.direct_hit_rate == pytest.approx(expected, abs=0.003)
    assert json.dumps(report.document())
