"""Prometheus text of `Metrics`: base units (seconds, bytes, counts), bounded labels.

A custom collector reads the plain counters at scrape time, so counting costs an integer addition
and nothing is registered globally.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from predawn.csrc._core import Histogram
from predawn.server.metrics import (
    MODEL_CHANGES,
    PAIR_SOURCES,
    Metrics,
    SpeculationCounts,
    cumulative,
)
from predawn.server.request import Source

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_AGES_S = (1.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 86400.0)
_LOADS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
_STORE_GAUGES = (
    "capacity",
    "entries",
    "bytes",
    "huge_bytes",
    "pending",
    "policy_sieve",
    "speculative_quota",
)
_SPECULATION_GAUGES: tuple[tuple[str, str, Callable[[SpeculationCounts], float]], ...] = (
    ("unread", "Pairs in the store that nobody has read.", lambda of: of.ledger.unread),
    ("waste_ratio", "Of the pairs that ended, those unread.", lambda of: of.ledger.waste()),
    ("budget_tokens", "Pairs that the budget would pay for now.", lambda of: of.tokens),
    ("price", "Value that a pair must have to be computed now.", lambda of: of.price),
    ("throttle", "Share of its budget that speculation grants itself.", lambda of: of.throttle),
)
_KEPT_GAUGES = ("pages", "pages_free", "pages_used", "users")


def render(metrics: Metrics) -> bytes:
    """The body of GET /metrics, of type `CONTENT_TYPE`: all of `metrics`, and this process's CPU,
    memory and file counts as predawn_process_*. About a millisecond: not for the request path."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_MetricsCollector(metrics))
    ProcessCollector(namespace="predawn", registry=registry)
    return generate_latest(registry)


class _MetricsCollector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        """Nothing to check against: this is the registry's only source of these names."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from _requests(self._metrics)
        yield from _embeddings(self._metrics)
        yield from _pairs(self._metrics)
        yield from _speculation(self._metrics)
        yield from _engine(self._metrics)
        yield from _engine_health(self._metrics)
        yield from _versions(self._metrics)
        yield from _store(self._metrics)
        yield from _served_log(self._metrics)


def _requests(metrics: Metrics) -> Iterator[Metric]:
    total = CounterMetricFamily(
        "predawn_requests", "Answered ranking requests.", labels=["ranker", "code"]
    )
    for (ranker, code), count in metrics.requests.items():
        total.add_metric([ranker, str(code)], count)
    yield total

    as_sent = CounterMetricFamily(
        "predawn_ranked_as_sent",
        "Requests answered in the order sent, since the ranker failed.",
        labels=["ranker"],
    )
    for ranker, count in metrics.as_sent.items():
        as_sent.add_metric([ranker], count)
    yield as_sent

    took = HistogramMetricFamily("predawn_request_seconds", "Time from body to reply.")
    _add(took, [], metrics.request_ns, _SECONDS, 1e9)
    yield took

    stages = HistogramMetricFamily(
        "predawn_stage_seconds", "Time of a request in a stage.", labels=["stage"]
    )
    for name, histogram in metrics.stages.items():
        _add(stages, [name], histogram, _SECONDS, 1e9)
    yield stages

    events = CounterMetricFamily("predawn_events", "History events accepted.")
    events.add_metric([], metrics.events)
    yield events


def _embeddings(metrics: Metrics) -> Iterator[Metric]:
    served = CounterMetricFamily(
        "predawn_served", "Embeddings served, by where they came from.", labels=["model", "source"]
    )
    fallbacks = CounterMetricFamily(
        "predawn_fallbacks", "Embeddings served in place of a failed one.", labels=["model"]
    )
    coalesced = CounterMetricFamily(
        "predawn_coalesced", "Callers that joined a running computation.", labels=["model"]
    )
    retries = CounterMetricFamily(
        "predawn_retries", "Requests that asked again after a failure.", labels=["model"]
    )
    refreshes = CounterMetricFamily(
        "predawn_refreshes", "Refreshes behind requests.", labels=["model", "outcome"]
    )
    ages = HistogramMetricFamily(
        "predawn_embedding_age_seconds", "Age of served embeddings.", labels=["model"]
    )
    for name, model in metrics.models.items():
        for source in Source:
            served.add_metric([name, source.label], model.served[source])
        for outcome, count in model.refreshes.items():
            refreshes.add_metric([name, outcome], count)
        fallbacks.add_metric([name], model.fallbacks)
        coalesced.add_metric([name], model.coalesced)
        retries.add_metric([name], model.retries)
        _add(ages, [name], model.age_ms, _AGES_S, 1e3)
    yield from (served, fallbacks, coalesced, retries, refreshes, ages)


def _pairs(metrics: Metrics) -> Iterator[Metric]:
    served = CounterMetricFamily(
        "predawn_pairs", "Pairs asked for, by what was served.", labels=["model", "source"]
    )
    missed = CounterMetricFamily(
        "predawn_missed_pairs",
        "Missed pairs to be computed behind their request, by how that ended.",
        labels=["model", "outcome"],
    )
    proposed = CounterMetricFamily(
        "predawn_proposed_pairs",
        "Pairs to be computed before a request asks for them, by how that ended.",
        labels=["model", "outcome"],
    )
    ages = HistogramMetricFamily(
        "predawn_pair_age_seconds", "Age of served pair embeddings.", labels=["model"]
    )
    for name, pairs in metrics.pairs.items():
        for source in PAIR_SOURCES:
            served.add_metric([name, source.label], pairs.served[source])
        for outcome, count in pairs.missed.items():
            missed.add_metric([name, outcome], count)
        for outcome, count in pairs.proposed.items():
            proposed.add_metric([name, outcome], count)
        _add(ages, [name], pairs.age_ms, _AGES_S, 1e3)
    coverage = GaugeMetricFamily(
        "predawn_pair_coverage",
        "Share of the pairs asked for, by what was served.",
        labels=["model", "level"],
    )
    for name, pairs in metrics.pairs.items():
        for source in PAIR_SOURCES:
            share = pairs.served[source] / max(1, sum(pairs.served))
            coverage.add_metric([name, source.label], share)
    waiting = GaugeMetricFamily(
        "predawn_pairs_waiting", "Pairs that wait to be computed.", labels=["model"]
    )
    for name, count in metrics.pairs_waiting().items():
        waiting.add_metric([name], count)
    yield from (served, missed, proposed, ages, coverage, waiting)


def _speculation(metrics: Metrics) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "predawn_pairs_speculated",
        "Computed pairs, by why they were and by what became of them.",
        labels=["model", "origin", "outcome"],
    )
    still = GaugeMetricFamily(
        "predawn_pairs_open",
        "Computed pairs that nobody has read and whose time is not over.",
        labels=["model", "origin"],
    )
    lead = HistogramMetricFamily(
        "predawn_pair_lead_seconds", "From a pair's issue to its first use.", labels=["model"]
    )
    age = HistogramMetricFamily(
        "predawn_pair_age_at_use_seconds", "Age of a pair at its first use.", labels=["model"]
    )
    found = metrics.speculation()
    for name, counts in found.items():
        for origin, outcomes in counts.ledger.outcomes.items():
            for outcome, count in outcomes.items():
                ended.add_metric([name, origin, outcome], count)
            still.add_metric([name, origin], counts.ledger.open[origin])
        _add(lead, [name], counts.ledger.lead_ms, _AGES_S, 1e3)
        _add(age, [name], counts.ledger.age_at_use_ms, _AGES_S, 1e3)
    yield from (ended, still, lead, age)
    for metric, what, value in _SPECULATION_GAUGES:
        gauge = GaugeMetricFamily(f"predawn_pair_{metric}", what, labels=["model"])
        for name, counts in found.items():
            gauge.add_metric([name], value(counts))
        yield gauge


def _engine(metrics: Metrics) -> Iterator[Metric]:
    inferences = CounterMetricFamily(
        "predawn_inferences",
        "Users put through a user model.",
        labels=["model", "lane", "outcome"],
    )
    for name, model in metrics.models.items():
        for (lane, outcome), count in model.inferences.items():
            inferences.add_metric([name, lane.name.lower(), outcome], count)
    yield inferences

    batches = CounterMetricFamily("predawn_batches", "Batches computed.", labels=["lane"])
    busy = CounterMetricFamily(
        "predawn_engine_busy_seconds", "Time of the engine's thread.", labels=["lane"]
    )
    for lane, count in metrics.batches.items():
        batches.add_metric([lane.name.lower()], count)
        busy.add_metric([lane.name.lower()], metrics.engine_ns[lane] * 1e-9)
    yield from (batches, busy)

    rows = HistogramMetricFamily("predawn_batch_rows", "Users in a batch.")
    _add(rows, [], metrics.batch_rows, _ROWS, 1)
    yield rows

    depth = GaugeMetricFamily("predawn_queue_depth", "Users queued, by lane.", labels=["lane"])
    for lane_name, count in metrics.queue_depth().items():
        depth.add_metric([lane_name], count)
    yield depth


def _engine_health(metrics: Metrics) -> Iterator[Metric]:
    counts = metrics.engine()
    ready = GaugeMetricFamily("predawn_engine_ready", "1: all models are loaded, can be asked.")
    ready.add_metric([], counts.ready)
    yield ready
    for name, value, what in (
        ("restarts", counts.restarts, "Times that the models' process was started again."),
        ("compiles", counts.compiles, "Kernels compiled after the warm-up: there must be none."),
    ):
        counter = CounterMetricFamily(f"predawn_engine_{name}", what)
        counter.add_metric([], value)
        yield counter
    for field in sorted({field for each in counts.kept.values() for field in each}):
        kind = GaugeMetricFamily if field in _KEPT_GAUGES else CounterMetricFamily
        family = kind(f"predawn_kept_{field}", f"Kept histories: {field}.", labels=["model"])
        for model, each in counts.kept.items():
            family.add_metric([model], each.get(field, 0))
        yield family


def _versions(metrics: Metrics) -> Iterator[Metric]:
    version = GaugeMetricFamily(
        "predawn_model_version",
        "Version of a model's snapshot; 0: it has none.",
        labels=["model", "state"],
    )
    for name, states in metrics.model_versions().items():
        for state, number in states.items():
            version.add_metric([name, state], number)
    yield version

    changes = CounterMetricFamily(
        "predawn_model_changes", "Loads, swaps and rollbacks.", labels=["model", "change"]
    )
    for name in metrics.model_versions():
        for change in MODEL_CHANGES:
            changes.add_metric([name, change], metrics.model_changes.get((name, change), 0))
    yield changes

    took = HistogramMetricFamily("predawn_model_load_seconds", "Time of loads that ended well.")
    _add(took, [], metrics.model_load_ns, _LOADS_S, 1e9)
    yield took


def _store(metrics: Metrics) -> Iterator[Metric]:
    stats = metrics.store()
    for field in sorted({field for table in stats.values() for field in table}):
        kind = GaugeMetricFamily if field in _STORE_GAUGES else CounterMetricFamily
        family = kind(f"predawn_store_{field}", f"Store: {field}.", labels=["model"])
        for model, table in stats.items():
            family.add_metric([model], table.get(field, 0))
        yield family


def _served_log(metrics: Metrics) -> Iterator[Metric]:
    log = metrics.served_log
    rows = CounterMetricFamily(
        "predawn_served_log_rows", "Requests for the served-feature log.", labels=["outcome"]
    )
    for outcome, count in log.rows.items():
        rows.add_metric([outcome], count)
    yield rows
    removed = CounterMetricFamily(
        "predawn_served_log_files_removed", "Files of the log removed for its size limit."
    )
    removed.add_metric([], log.files_removed)
    yield removed
    for name, value in (("files", log.files), ("bytes", log.bytes)):
        gauge = GaugeMetricFamily(f"predawn_served_log_{name}", f"The log now: {name}.")
        gauge.add_metric([], value)
        yield gauge


def _add(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    histogram: Histogram,
    bounds: Sequence[float],
    units_per_bound: float,
) -> None:
    """Adds `histogram`, recorded in 1 / `units_per_bound`, with `bounds` as its buckets."""
    recorded = np.array([round(bound * units_per_bound) for bound in bounds], dtype=np.int64)
    names = [*(str(bound) for bound in bounds), "+Inf"]
    counts = cumulative(histogram, recorded)
    buckets = list(zip(names, counts, strict=True))
    family.add_metric(labels, buckets, sum_value=histogram.sum / units_per_bound)
