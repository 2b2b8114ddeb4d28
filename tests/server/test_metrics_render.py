"""The Prometheus text parses, has the promised names and units, and says what was counted."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from predawn.csrc._core import Histogram
from predawn.server.metrics import (
    PAIR_OUTCOMES,
    EngineCounts,
    LedgerCounts,
    Metrics,
    SpeculationCounts,
)
from predawn.server.metrics_render import render
from predawn.server.request import Lane, Source


def _shown(outcome: str) -> dict[str, str]:
    return {"model": "fm", "origin": "shown", "outcome": outcome}


def speculation() -> SpeculationCounts:
    """Of 10 pairs computed ahead, 3 read, 2 not, 5 open."""
    lead_ms, age_ms = Histogram(), Histogram()
    for ms in (4_000, 20_000, 70_000):
        lead_ms.record(ms)
        age_ms.record(ms // 2)
    shown = dict.fromkeys(PAIR_OUTCOMES, 0) | {"used": 3, "wasted": 1, "evicted": 1}
    none = dict.fromkeys(PAIR_OUTCOMES, 0) | {"failed": 2}
    ledger = LedgerCounts(
        {"shown": shown, "popular": none}, {"shown": 5, "popular": 0}, 4, lead_ms, age_ms
    )
    return SpeculationCounts(
        ledger, tokens=12.5, price=0.25, throttle=0.05, sentence="few are read"
    )


@pytest.fixture
def metrics() -> Metrics:
    counted = Metrics(["sum"], ["ctr"], ["fm"])
    counted.served_pairs("fm", [2, 0, 0, 0, 0, 0, 3, 0], np.array([5_000, 90_000]))
    counted.missed("fm", "ok", 2)
    counted.pairs_waiting = lambda: {"fm": 7}
    counted.speculation = lambda: {"fm": speculation()}
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
        ("predawn_pairs_speculated_total", _shown("used"), 3),
        ("predawn_pairs_speculated_total", _shown("void"), 0),
        ("predawn_pairs_open", {"model": "fm", "origin": "shown"}, 5),
        ("predawn_pair_unread", {"model": "fm"}, 4),
        ("predawn_pair_waste_ratio", {"model": "fm"}, 0.4),
        ("predawn_pair_lead_seconds_count", {"model": "fm"}, 3),
        ("predawn_pair_lead_seconds_bucket", {"model": "fm", "le": "30.0"}, 2),
        ("predawn_pair_age_at_use_seconds_sum", {"model": "fm"}, 47),
        ("predawn_pair_budget_tokens", {"model": "fm"}, 12.5),
        ("predawn_pair_price", {"model": "fm"}, 0.25),
        ("predawn_pair_throttle", {"model": "fm"}, 0.05),
        ("predawn_pair_coverage", {"model": "fm", "level": "direct"}, 0.4),
        ("predawn_pair_coverage", {"model": "fm", "level": "neighbour"}, 0),
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


def test_the_account_as_plain_data_adds_up(metrics: Metrics) -> None:
    found = metrics.snapshot()["speculation"]["fm"]
    assert found["issued"] == sum(found["outcomes"].values()) + sum(found["open"].values()) == 12
    assert found["waste"] == 0.4 and found["sentence"] == "few are read"
    assert 0.9 * 20_000 < found["lead_ms"]["p50"] < 1.1 * 20_000
