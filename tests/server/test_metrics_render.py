"""The Prometheus text parses, has the promised names and units, and says what was counted."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from predawn.server.metrics import EngineCounts, Metrics
from predawn.server.metrics_render import render
from predawn.server.request import Lane, Source


@pytest.fixture
def metrics() -> Metrics:
    counted = Metrics(["sum"], ["ctr"], ["fm"])
    counted.served_pairs("fm", [2, 0, 0, 0, 0, 0, 3, 0], np.array([5_000, 90_000]))
    counted.missed("fm", "ok", 2)
    counted.pairs_waiting = lambda: {"fm": 7}
    counted.request("ctr", 200, 3_000_000)
    counted.request("ctr", 200, 40_000_000)
    counted.stage("lookup", 20_000)
    counted.served("sum", Source.STALE, 90_000, fallback=False)
    counted.served("sum", Source.DEFAULT, -1, fallback=True)
    counted.inferred("sum", Lane.REFRESH, "ok", 2)
    counted.batch(Lane.REFRESH, 2, 1_500_000_000)
    counted.refreshed("sum", "shed")
    counted.joined("sum")
    for _ in range(3):
        counted.retried("sum")
    counted.ranked_as_sent("ctr")
    counted.accepted(5)
    counted.model_versions = lambda: {"sum": {"live": 3, "staged": 4}, "ctr": {"live": 0}}
    counted.model_changed("sum", "swap")
    counted.model_load_ns.record(2_000_000_000)
    counted.ran(Lane.SPECULATE, 250_000_000)
    kept = {"fm": {"pages_used": 5, "tokens_reused": 70}}
    counted.engine = lambda: EngineCounts(restarts=2, compiles=1, kept=kept, ready=False)
    counted.queue_depth = lambda: {"wait": 1, "refresh": 2}
    counted.store = lambda: {"sum": {"entries": 3, "hits": 4, "pending": 1}}
    return counted


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(render(metrics).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("predawn_requests_total", {"ranker": "ctr", "code": "200"}, 2),
        ("predawn_request_seconds_count", {}, 2),
        ("predawn_request_seconds_sum", {}, 0.043),
        ("predawn_request_seconds_bucket", {"le": "0.005"}, 1),
        ("predawn_request_seconds_bucket", {"le": "+Inf"}, 2),
        ("predawn_stage_seconds_count", {"stage": "lookup"}, 1),
        ("predawn_served_total", {"model": "sum", "source": "stale"}, 1),
        ("predawn_served_total", {"model": "sum", "source": "direct"}, 0),
        ("predawn_fallbacks_total", {"model": "sum"}, 1),
        ("predawn_coalesced_total", {"model": "sum"}, 1),
        ("predawn_retries_total", {"model": "sum"}, 3),
        ("predawn_ranked_as_sent_total", {"ranker": "ctr"}, 1),
        ("predawn_embedding_age_seconds_count", {"model": "sum"}, 1),
        ("predawn_embedding_age_seconds_bucket", {"model": "sum", "le": "60.0"}, 0),
        ("predawn_embedding_age_seconds_bucket", {"model": "sum", "le": "300.0"}, 1),
        (
            "predawn_inferences_total",
            {"model": "sum", "lane": "refresh", "outcome": "ok"},
            2,
        ),
        ("predawn_refreshes_total", {"model": "sum", "outcome": "shed"}, 1),
        ("predawn_batches_total", {"lane": "refresh"}, 1),
        ("predawn_batch_rows_bucket", {"le": "2.0"}, 1),
        ("predawn_engine_busy_seconds_total", {"lane": "refresh"}, 1.5),
        ("predawn_batches_total", {"lane": "speculate"}, 1),
        ("predawn_engine_busy_seconds_total", {"lane": "speculate"}, 0.25),
        ("predawn_engine_ready", {}, 0),
        ("predawn_engine_restarts_total", {}, 2),
        ("predawn_engine_compiles_total", {}, 1),
        ("predawn_kept_pages_used", {"model": "fm"}, 5),
        ("predawn_kept_tokens_reused_total", {"model": "fm"}, 70),
        ("predawn_queue_depth", {"lane": "refresh"}, 2),
        ("predawn_store_entries", {"model": "sum"}, 3),
        ("predawn_store_hits_total", {"model": "sum"}, 4),
        ("predawn_events_total", {}, 5),
        ("predawn_pairs_total", {"model": "fm", "source": "direct"}, 2),
        ("predawn_pairs_total", {"model": "fm", "source": "default"}, 3),
        ("predawn_pairs_total", {"model": "fm", "source": "user_mean"}, 0),
        ("predawn_missed_pairs_total", {"model": "fm", "outcome": "ok"}, 2),
        ("predawn_missed_pairs_total", {"model": "fm", "outcome": "stale"}, 0),
        ("predawn_pair_age_seconds_bucket", {"model": "fm", "le": "10.0"}, 1),
        ("predawn_pair_age_seconds_count", {"model": "fm"}, 2),
        ("predawn_pairs_waiting", {"model": "fm"}, 7),
        ("predawn_model_version", {"model": "sum", "state": "live"}, 3),
        ("predawn_model_version", {"model": "sum", "state": "staged"}, 4),
        ("predawn_model_version", {"model": "ctr", "state": "live"}, 0),
        ("predawn_model_changes_total", {"model": "sum", "change": "swap"}, 1),
        ("predawn_model_changes_total", {"model": "ctr", "change": "load_failed"}, 0),
        ("predawn_model_load_seconds_bucket", {"le": "1.0"}, 0),
        ("predawn_model_load_seconds_bucket", {"le": "2.5"}, 1),
    ],
)
def test_what_was_counted_is_printed(
    metrics: Metrics, name: str, labels: dict[str, str], value: float
) -> None:
    assert samples(metrics)[name, tuple(sorted(labels.items()))] == pytest.approx(value)


def test_the_process_is_described(metrics: Metrics) -> None:
    names = {name for name, _ in samples(metrics)}
    assert {"predawn_process_cpu_seconds_total", "predawn_process_resident_memory_bytes"} <= names


def test_every_name_is_ours_and_renders_twice(metrics: Metrics) -> None:
    assert all(name.startswith("predawn_") for name, _ in samples(metrics))
    assert {n for n, _ in samples(metrics)} == {n for n, _ in samples(metrics)}


def test_a_server_that_has_done_nothing_renders() -> None:
    assert samples(Metrics([], []))["predawn_request_seconds_count", ()] == 0
