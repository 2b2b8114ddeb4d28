"""The recorder keeps every answer and counts sources, errors and latencies from it."""

import math

from predawn.bench.load import Answer
from predawn.bench.recorder import Recorder, sources_of

BODY = b'{"items":[],"sources":{"user":{"sum":{"source":"stale","age_ms":7}}},"degraded":true}'


def _answer(tag: int, took_ms: float, status: int, body: bytes = b"") -> Answer:
    return Answer(tag, 1_000_000, 1_100_000, 1_000_000 + round(took_ms * 1e6), status, body, b"")


def test_latency_counts_from_the_intended_time_of_good_answers() -> None:
    recorder = Recorder()
    for answer in (_answer(0, 2, 200, BODY), _answer(1, 4, 200, BODY), _answer(2, 90, 503)):
        recorder(answer)
    assert recorder.latencies_ns().tolist() == [2_000_000, 4_000_000]
    assert recorder.quantile_ms(0.5) == 3.0
    assert recorder.errors() == {503: 1}
    assert recorder.sources == {"stale": 2} and recorder.degraded == 2
    assert len(recorder) == 3


def test_quantile_of_nothing_is_nan() -> None:
    assert math.isnan(Recorder().quantile_ms(0.5))


def test_sources_are_found_with_and_without_blanks() -> None:
    assert sources_of(b'{"a":{"source":"direct"},"b":{"source": "user_mean"}}') == [
        "direct",
        "user_mean",
    ]
