"""The counters add up, and their JSON form is complete and free of NaN."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from predawn.csrc._core import Histogram
from predawn.server.metrics import EngineCounts, Metrics, cumulative
from predawn.server.request import Lane, Source

served = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(Source), st.integers(-1, 10**9))


@given(st.lists(served))
def test_sources_add_up_to_the_embeddings_served(answers: list[tuple[str, Source, int]]) -> None:
    metrics = Metrics(["a", "b"], ["r"])
    for model, source, age_ms in answers:
        metrics.served(model, source, age_ms, fallback=source is Source.FAILOVER)
    for name in ("a", "b"):
        of_model = [source for model, source, _ in answers if model == name]
        counts = metrics.snapshot()["models"][name]
        assert counts["requests"] == len(of_model) == sum(counts["sources"].values())
        assert counts["sources"] == {s.label: of_model.count(s) for s in Source}
        assert counts["fallbacks"] == of_model.count(Source.FAILOVER)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_sources_of_pairs_add_up_to_the_pairs_asked_for(requests: list[tuple[int, int]]) -> None:
    metrics = Metrics([], [], ["fm"])
    for direct, default in requests:
        counts = [0] * len(Source)
        counts[Source.DIRECT], counts[Source.DEFAULT] = direct, default
        metrics.served_pairs("fm", counts, np.full(direct, 1_000))
    found = metrics.snapshot()["pairs"]["fm"]
    assert found["asked"] == sum(found["sources"].values()) == sum(map(sum, requests))
    assert found["sources"]["default"] == sum(default for _, default in requests)
    assert metrics.pairs["fm"].age_ms.count == found["sources"]["direct"]


def test_age_quantiles_ignore_embeddings_without_an_age() -> None:
    metrics = Metrics(["a"], [])
    metrics.served("a", Source.DEFAULT, -1, fallback=False)
    metrics.served("a", Source.DIRECT, 3_000, fallback=False)
    assert abs(metrics.snapshot()["models"]["a"]["age_ms"]["p50"] - 3_000) <= 3_000 / 32


def test_an_empty_snapshot_is_valid_json_without_nan() -> None:
    text = json.dumps(Metrics(["a"], ["r"]).snapshot(), allow_nan=False)
    assert json.loads(text)["models"]["a"]["age_ms"] == {"p50": 0.0, "p99": 0.0}


def test_requests_are_counted_by_ranker_and_code_with_bounded_names() -> None:
    metrics = Metrics([], ["ctr"])
    for ranker, code in (("ctr", 200), ("ctr", 200), ("made-up", 404), ("another", 404)):
        metrics.request(ranker, code, 1_000)
    assert metrics.requests == {("ctr", 200): 2, ("unknown", 404): 2}
    assert metrics.snapshot()["requests"] == 4
    assert metrics.snapshot()["errors"] == 0


def test_inferences_batches_refreshes_and_joins_are_kept_apart() -> None:
    metrics = Metrics(["a"], [])
    metrics.inferred("a", Lane.WAIT, "ok", 3)
    metrics.inferred("a", Lane.REFRESH, "failed", 2)
    metrics.refreshed("a", "shed", 5)
    metrics.joined("a")
    metrics.retried("a")
    metrics.retried("a")
    metrics.batch(Lane.WAIT, 3, 2_000_000_000)
    metrics.ran(Lane.SPECULATE, 500_000_000)
    kept = {"fm": {"users": 3}}
    metrics.engine = lambda: EngineCounts(1, 2, kept)
    metrics.accepted(7)
    for change in ("swap", "swap", "load_failed"):
        metrics.model_changed("a", change)
    metrics.model_versions = lambda: {"a": {"live": 3}}
    metrics.stage("encode", 10)
    metrics.queue_depth = lambda: {"wait": 4}
    metrics.store = lambda: {"a": {"entries": 9}}
    found = metrics.snapshot()
    assert found["models"]["a"]["inferences"] == 5
    assert found["models"]["a"]["coalesced"] == 1
    assert found["models"]["a"]["retries"] == 2
    assert found["models"]["a"]["refreshes"] == {"ok": 0, "failed": 0, "shed": 5, "coalesced": 0}
    assert (found["batches"], found["engine_busy_s"]["wait"], found["events"]) == (2, 2.0, 7)
    assert (found["engine_restarts"], found["engine_compiles"], found["kept"]) == (1, 2, kept)
    assert found["engine_ready"] and found["engine_busy_s"]["speculate"] == 0.5
    assert metrics.model_changes == {("a", "swap"): 2, ("a", "load_failed"): 1}
    assert found["versions"] == {"a": {"live": 3}}
    assert set(found["stages_ms"]) == {"lookup", "wait", "rank", "encode"}
    assert (found["queue_depth"], found["store"]) == ({"wait": 4}, {"a": {"entries": 9}})


def test_cumulative_counts_end_with_everything() -> None:
    histogram = Histogram()
    histogram.record_many(np.array([1, 5, 20], dtype=np.int64))
    assert cumulative(histogram, np.array([1, 10], dtype=np.int64)) == [1, 2, 3]
