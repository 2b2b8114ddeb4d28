import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from predawn.server.traces import Trace, read_trace
from predawn.server.traces_describe import describe, direct_hit_rate, gap_cdf, gaps_ms, repeat_rate

DATA = Path(os.environ.get("PREDAWN_DATA", Path(__file__).parents[3] / "shared" / "data"))


def shared(name: str) -> Trace:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the shared data: {name} (set PREDAWN_DATA)")
    return read_trace(path)


def trace_of(tmp_path: Path, rows: list[dict[str, Any]]) -> Trace:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    return read_trace(path)


def percent(values: Any) -> list[float]:
    return [round(100 * float(value), 1) for value in values]


MINUTES = [60_000 * minutes for minutes in (1, 5, 10, 60)]


def test_kuairand_has_its_published_figures() -> None:
    trace = shared("kuairand-likehate/processed_standard_kcore_15.tsv.gz")
    told = describe(trace)
    assert (told["requests"], told["users"], told["items"]) == (41_828, 664, 9_359)
    assert percent(gap_cdf(trace, MINUTES)) == [14.9, 28.6, 37.4, 58.7]
    assert percent(direct_hit_rate(trace, ttl) for ttl in MINUTES) == [14.3, 26.0, 33.7, 53.9]
    assert percent([repeat_rate(trace)]) == [1.0]
    means = [round(float(trace.labels[name].mean()), 3) for name in ("click", "long_view", "like")]
    assert means == [0.657, 0.462, 0.807]
    assert float(trace.item_features.mean()) * 1000 == pytest.approx(36_290, abs=1)


def test_otto_has_its_published_figures() -> None:
    trace = shared("otto-sample/train.jsonl")
    told = describe(trace)
    assert (told["requests"], told["users"], told["items"]) == (862, 20, 510)
    assert percent(gap_cdf(trace, MINUTES)) == [61.4, 82.2, 83.1, 86.0]
    assert percent(direct_hit_rate(trace, ttl) for ttl in MINUTES) == [47.8, 73.5, 78.3, 83.5]
    assert percent([repeat_rate(trace)]) == [38.9]
    assert (trace.labels["cart"].sum(), trace.labels["order"].sum()) == (52, 10)


def test_a_hit_does_not_renew_the_entry(tmp_path: Path) -> None:
    rows = [{"t_ms": t, "user": 1, "items": [1]} for t in (0, 60, 120, 180)]
    trace = trace_of(tmp_path, rows)
    # Age counts from the write at 0: 120 is exactly at the limit and hits, 180 writes again.
    assert direct_hit_rate(trace, 120) == 0.5
    assert direct_hit_rate(trace, 61) == 0.5
    assert direct_hit_rate(trace, 180) == 0.75
    assert direct_hit_rate(trace, 59) == 0.0


def test_gaps_are_of_the_same_user_only(tmp_path: Path) -> None:
    rows = [{"t_ms": t, "user": u, "items": [1]} for t, u in ((0, 1), (5, 2), (7, 1), (11, 2))]
    trace = trace_of(tmp_path, rows)
    assert sorted(gaps_ms(trace).tolist()) == [6, 7]
    assert gap_cdf(trace, [5, 6, 7]).tolist() == [0.0, 0.5, 1.0]


def test_repeats_count_earlier_requests_of_the_same_user(tmp_path: Path) -> None:
    rows = [
        {"t_ms": 0, "user": 1, "items": [1, 2]},
        {"t_ms": 1, "user": 2, "items": [1, 2]},
        {"t_ms": 2, "user": 1, "items": [2, 3, 1]},
        {"t_ms": 3, "user": 1, "items": [3]},
    ]
    assert repeat_rate(trace_of(tmp_path, rows)) == pytest.approx(3 / 8)
