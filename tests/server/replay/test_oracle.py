"""The server in virtual time against plain dictionaries: the same trace, the same figures."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import TickingClock, day, replayed, visits

from predawn.server.replay import replay
from predawn.server.replay.options import ReplayOptions
from predawn.server.replay.oracle import _cached, oracle
from predawn.server.traces import Trace, read_trace

DATA = Path(os.environ.get("PREDAWN_DATA", Path(__file__).parents[4] / "shared" / "data"))
MINUTE_MS = 60_000

# Apart by a second: nothing is in flight when the same user comes back.
times = st.lists(st.tuples(st.integers(1, 600), st.integers(1, 4)), min_size=1, max_size=40)


def spread(steps: list[tuple[int, int]]) -> Trace:
    now, found = 0, []
    for seconds, user in steps:
        now += seconds * 1000
        found.append((now, user))
    return visits(found)


@settings(max_examples=40, deadline=None)
@given(steps=times, mode=st.sampled_from(["ercache", "soap"]), ttl_s=st.integers(0, 1500))
def test_direct_hits_are_those_of_plain_dictionaries(
    steps: list[tuple[int, int]], mode: str, ttl_s: int
) -> None:
    trace = spread(steps)
    # Not on a whole second, so that some milliseconds of compute move no visit over the limit.
    report = replayed(trace, mode=mode, direct_ttl_ms=ttl_s * 1000 + 500, oracle=True)
    assert report.oracle is not None
    model = report.models["user"]
    assert model.direct_hit_rate == pytest.approx(report.oracle["direct_hit_rate"])
    assert model.inferences == len(trace) - model.sources["direct"]
    assert sum(model.sources.values()) == len(trace)
    assert model.fallbacks_per_request == pytest.approx(report.oracle["fallbacks_per_request"])


@pytest.mark.parametrize("minutes", [1, 5, 10, 60])
def test_the_workload_agrees_within_three_tenths_of_a_point(minutes: int) -> None:
    report = replayed(day(), mode="ercache", direct_ttl_ms=minutes * MINUTE_MS, oracle=True)
    assert report.oracle is not None
    assert report.models["user"].direct_hit_rate == pytest.approx(
        report.oracle["direct_hit_rate"], abs=0.003
    )


@pytest.mark.parametrize("mode", ["ercache", "soap"])
def test_events_of_one_instant_join_one_compute(mode: str) -> None:
    trace = visits([(0, 1), (0, 1), (2, 1), (5_000, 1), (5_000, 2)])
    report = replayed(trace, mode=mode, oracle=True)
    assert report.oracle is not None
    model = report.models["user"]
    assert report.oracle["direct_hit_rate"] == pytest.approx(3 / 5)
    assert report.oracle["in_flight"] == pytest.approx(2 / 5)
    assert model.direct_hit_rate == pytest.approx(1 / 5)
    assert model.inferences == 2


def test_real_events_replay_as_the_oracle_says() -> None:
    path = DATA / "otto-sample" / "train.jsonl"
    if not path.exists():
        pytest.skip("needs the shared data: otto-sample/train.jsonl (set PREDAWN_DATA)")
    trace = read_trace(path)
    for minutes, expected in ((1, 0.478), (5, 0.735), (10, 0.783), (60, 0.835)):
        report = replayed(trace, mode="ercache", direct_ttl_ms=minutes * MINUTE_MS, oracle=True)
        assert report.oracle is not None
        assert report.oracle["direct_hit_rate"] == pytest.approx(expected, abs=0.001)
        model = report.models["user"]
        known = report.oracle["direct_hit_rate"] - report.oracle["in_flight"]
        assert model.direct_hit_rate == pytest.approx(known, abs=0.003)
        assert model.inferences_saved_share == pytest.approx(expected, abs=0.001)


def test_failures_fall_back_as_rarely_as_the_oracle_says() -> None:
    options = {"mode": "ercache", "failure_rate": 0.2, "failover_ttl_ms": 120 * MINUTE_MS}
    report = replayed(day(), **options, oracle=True)
    model = report.models["user"]
    assert report.oracle is not None
    assert model.fallbacks_per_request == pytest.approx(
        report.oracle["fallbacks_per_request"], abs=0.012
    )
    assert model.direct_hit_rate == pytest.approx(report.oracle["direct_hit_rate"], abs=0.012)
    assert model.fallbacks_per_request_without_store == pytest.approx(0.2, abs=0.03)
    assert model.sources["failover"] > 0


@settings(max_examples=60, deadline=None)
@given(
    steps=times,
    retries=st.integers(0, 3),
    failure_rate=st.sampled_from([0.3, 0.7, 1.0]),
    wait_ms=st.sampled_from([3, 8, 13, 30]),
    direct_s=st.integers(0, 300),
    seed=st.integers(0, 9),
)
def test_retries_are_those_of_plain_dictionaries(
    steps: list[tuple[int, int]],
    retries: int,
    failure_rate: float,
    wait_ms: int,
    direct_s: int,
    seed: int,
) -> None:
    trace = spread(steps)
    options = ReplayOptions(
        mode="ercache",
        direct_ttl_ms=direct_s * 1000 + 500,
        failover_ttl_ms=400_500,
        retries=retries,
        failure_rate=failure_rate,
        wait_ms=wait_ms,
        seed=seed,
    )
    model = replay(trace, options, TickingClock()).models["user"]
    # The draws of the simulated engine, so that both see the same inferences fail.
    expected = _cached(trace, options, np.random.default_rng([seed, 1]).spawn(1)[0])
    assert model.fallbacks_per_request == pytest.approx(expected["fallbacks_per_request"])
    assert model.direct_hit_rate == pytest.approx(expected["direct_hit_rate"])
    assert model.retries == round(expected["retries_per_request"] * len(trace))
    assert model.inferences == len(trace) - model.sources["direct"] + model.retries


def test_a_retry_makes_fallbacks_rarer_still_and_the_bare_server_has_none() -> None:
    options = {"mode": "ercache", "failure_rate": 0.2, "failover_ttl_ms": 120 * MINUTE_MS}
    once, retried = (replayed(day(), **options, retries=n, oracle=True) for n in (0, 1))
    without, with_retry = once.models["user"], retried.models["user"]
    assert without.retries == 0 < with_retry.retries
    assert with_retry.fallbacks_per_request < without.fallbacks_per_request / 3
    assert retried.oracle is not None
    assert with_retry.fallbacks_per_request == pytest.approx(
        retried.oracle["fallbacks_per_request"], abs=0.012
    )
    bare = "fallbacks_per_request_without_store"
    assert getattr(with_retry, bare) == getattr(without, bare)


@pytest.mark.parametrize(
    ("retries", "wait_ms", "left"), [(0, 30, 0.5), (3, 30, 1 / 16), (3, 8, 0.5)]
)
def test_realtime_falls_back_when_all_attempts_in_time_fail(
    retries: int, wait_ms: int, left: float
) -> None:
    options = {"mode": "realtime", "failure_rate": 0.5, "retries": retries, "wait_ms": wait_ms}
    report = replayed(day(), **options, oracle=True)
    assert report.oracle is not None
    assert report.oracle["fallbacks_per_request"] == left
    assert report.models["user"].fallbacks_per_request == pytest.approx(left, abs=0.03)


def test_sweeps_have_no_hit_rate_of_their_own() -> None:
    found = oracle(day(), ReplayOptions(mode="batch"))
    assert set(found) == {"hit_rate"}
    assert oracle(day(), ReplayOptions(mode="realtime"))["direct_hit_rate"] == 0.0
