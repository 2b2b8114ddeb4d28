"""The demo's traffic is the workload, in its order, for ever, with all of its events."""

from itertools import islice

import orjson
import pytest

from predawn.bench import demo_traffic
from predawn.bench.demo_traffic import EVENTS_TAG, Traffic
from predawn.bench.load import Send
from predawn.bench.workload import WorkloadOptions, generate
from predawn.server.traces import Trace

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def trace() -> Trace:
    return generate(WorkloadOptions(users=100, hours=6, seed=3)).slice(0, 20)


def _body(send: Send) -> dict[str, object]:
    return orjson.loads(send.message.partition(b"\r\n\r\n")[2])  # type: ignore[no-any-return]


def test_requests_follow_the_workload_evenly_and_go_round(trace: Trace) -> None:
    sends = islice(Traffic(trace, 100.0, ("a", "b"), 0).sends(), 60)
    ranks = [send for send in sends if send.tag != EVENTS_TAG]
    assert [send.tag for send in ranks] == list(range(len(ranks)))
    assert [send.at_ns for send in ranks[:3]] == [0, 10_000_000, 20_000_000]
    assert [_body(send)["user"] for send in ranks[:25]] == [trace.user(i % 20) for i in range(25)]
    assert {_body(send)["ranker"] for send in ranks} == {"a", "b"}
    assert _body(ranks[20])["items"] == _body(ranks[0])["items"]


def test_events_cover_every_candidate_of_a_lap_with_rising_times(trace: Trace) -> None:
    sends = list(islice(Traffic(trace, 100.0, ("a",), 5 * DAY_MS).sends(), 45))
    bodies = [_body(send)["events"] for send in sends if send.tag == EVENTS_TAG]
    first_16 = [event for body in bodies[:2] for event in body]  # type: ignore[attr-defined]
    assert len(first_16) == int(trace.offsets[16])
    clicked = sum("clicked" in event["types"] for event in first_16)
    assert clicked == int(trace.clicked[: trace.offsets[16]].sum())
    assert first_16[0]["t_ms"] == int(trace.t_ms[0]) + 5 * DAY_MS
    later = bodies[3][0]["t_ms"]  # type: ignore[index]
    assert later > first_16[-1]["t_ms"]


def test_past_is_told_completely_and_once(trace: Trace) -> None:
    bodies = [orjson.loads(b)["events"] for b in demo_traffic.past_bodies(trace, 0, events_each=30)]
    assert sum(len(events) for events in bodies) == trace.rows
    assert len(bodies) > 2


def test_pace_compresses_durations(trace: Trace) -> None:
    pace = demo_traffic.pace_of(trace, rate=10.0)
    span_s = (int(trace.t_ms[-1]) - int(trace.t_ms[0])) / 1000
    assert pace.compression == pytest.approx(span_s / 2.0)
    assert pace.compressed_ms(300_000) == max(1, round(300_000 / pace.compression))


@pytest.mark.parametrize("now_ms", [1_800_000_000_000, 1_000_000])
def test_shifted_times_are_long_past_and_keep_the_time_of_day(trace: Trace, now_ms: int) -> None:
    shifted = int(trace.t_ms[0]) + demo_traffic.start_shift_ms(trace, now_ms)
    assert 0 <= shifted <= max(0, now_ms - 9_999 * DAY_MS)
    if shifted:
        assert shifted % DAY_MS == int(trace.t_ms[0]) % DAY_MS
