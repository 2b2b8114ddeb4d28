"""What the server counts: plain integers and native histograms, written on the event loop only.

Invariant: for every user model, the sources in `served` add up to the requests that used it, since
the pipeline counts both with one call per model and request. Labels are bounded: names come from
the config, everything else from enums. `metrics_render.render` turns this into Prometheus text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from predawn.csrc._core import Histogram
from predawn.server.request import I64, Lane, Source

STAGES = ("lookup", "wait", "rank")
"""Parts of a request's time that the pipeline measures; others may be added by `stage`."""

INFERENCE_OUTCOMES: tuple[str, ...] = ("ok", "failed", "invalid")
"""Per user: computed; the whole batch failed; the row was not finite."""

REFRESH_OUTCOMES: tuple[str, ...] = ("ok", "failed", "shed", "coalesced")
"""Per scheduled refresh: done; failed; refused by a full queue or a hung engine; already due."""

MISSED_OUTCOMES: tuple[str, ...] = (
    *("ok", "failed", "invalid", "void"),
    *("coalesced", "full", "stale"),
    *("filtered", "unlikely", "below_price"),
)
"""Per missed pair that was to be computed behind its request: computed; its batch failed; its row
was not finite; its user was invalidated meanwhile; it was waiting or running already; it had to go
from a full queue; it waited for too long; it was in the store already; it is hardly ever asked for
again; the budget had better uses. The same of proposed pairs."""

PAIR_OUTCOMES: tuple[str, ...] = (
    *("used", "wasted", "evicted", "failed", "void"),
    *("replaced", "forgotten"),
)
"""Per computed pair: first read by a request; its ttl passed unread; gone from the store unread, or
of a version that no longer serves; not computed, or not fit to be kept; its user was invalidated
meanwhile; computed again; the ledger was full."""

UNREAD_OUTCOMES: tuple[str, ...] = ("wasted", "evicted", "void", "replaced")
"""Of these, what was paid for in vain."""

PAIR_SOURCES = (
    Source.DIRECT,
    Source.USER_MEAN,
    Source.RECENT,
    Source.NEIGHBOUR,
    Source.DEFAULT,
)
"""What a pair's embedding can come from."""

MODEL_CHANGES: tuple[str, ...] = ("load", "load_failed", "swap", "rollback")
"""What is done to the version of a model."""

SERVED_LOG_OUTCOMES: tuple[str, ...] = ("written", "dropped", "failed")
"""Per logged request: in a file; the buffer was full; its file could not be written."""

Gauge = Callable[[], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """What an engine says of itself. restarts: of its process; compiles: kernels compiled after
    the warm-up, of which there must be none; kept: by pair model, what it says of the histories
    that it keeps; ready: all models are loaded and can be asked."""

    restarts: int = 0
    compiles: int = 0
    kept: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    ready: bool = True


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """What became of the pairs of one model that were computed. outcomes: of all that have an end,
    by origin and outcome; open: those that have none, by origin; unread: of these, readable;
    lead_ms: from issue to first use; age_at_use_ms: from landing to first use."""

    outcomes: Mapping[str, Mapping[str, int]]
    open: Mapping[str, int]
    unread: int
    lead_ms: Histogram
    age_at_use_ms: Histogram

    def total(self, outcome: str) -> int:
        """Pairs of all origins that ended so."""
        return sum(of.get(outcome, 0) for of in self.outcomes.values())

    def waste(self) -> float:
        """Of the pairs that were computed and have ended, the share that nobody read; 0 of none."""
        unread = sum(map(self.total, UNREAD_OUTCOMES))
        return unread / (unread + self.total("used")) if unread else 0.0


@dataclass(frozen=True, slots=True)
class SpeculationCounts:
    """What speculation says of one pair model. tokens: pairs that the budget would pay for now;
    price: the value that a pair must have to be computed now; throttle: share of its budget that
    speculation grants itself, 1: all of it; sentence: why."""

    ledger: LedgerCounts
    tokens: float = 0.0
    price: float = 0.0
    throttle: float = 1.0
    sentence: str = ""


@dataclass(slots=True)
class ServedLogCounts:
    """What the served-feature log has done. rows: requests of its share by SERVED_LOG_OUTCOMES;
    files, bytes: there now; files_removed: for the limit on all."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SERVED_LOG_OUTCOMES, 0))
    files: int = 0
    bytes: int = 0
    files_removed: int = 0


VersionStates = Callable[[], Mapping[str, Mapping[str, int]]]
StoreStats = Callable[[], Mapping[str, Mapping[str, int]]]


class ModelMetrics:
    """Counts of one user model."""

    def __init__(self) -> None:
        self.served = [0] * len(Source)
        self.fallbacks = 0  # of those, served after a compute that failed, came late or was refused
        self.coalesced = 0  # callers that joined a computation already under way
        self.retries = 0  # failed inferences asked for again, by each who waited for them
        self.inferences = {(lane, out): 0 for lane in Lane for out in INFERENCE_OUTCOMES}
        self.refreshes = dict.fromkeys(REFRESH_OUTCOMES, 0)
        self.age_ms = Histogram()  # of served embeddings that have an age

    def computed(self) -> int:
        """Users put through the model, whatever came out: what inference costs."""
        return sum(self.inferences.values())


class PairMetrics:
    """Counts of one pair model. Every missed pair is waiting, running, or in `missed` once, and
    every proposed one in `proposed`."""

    def __init__(self) -> None:
        self.served = [0] * len(Source)
        self.missed = dict.fromkeys(MISSED_OUTCOMES, 0)
        self.proposed = dict.fromkeys(MISSED_OUTCOMES, 0)
        self.age_ms = Histogram()  # of served embeddings that have an age


class Metrics:
    """All counters of a server. `models`, `rankers` and `pairs` are the configured names."""

    def __init__(
        self, models: Sequence[str], rankers: Sequence[str], pairs: Sequence[str] = ()
    ) -> None:
        self.models = {name: ModelMetrics() for name in models}
        self.pairs = {name: PairMetrics() for name in pairs}
        self.rankers = tuple(rankers)
        self.requests: dict[tuple[str, int], int] = {}
        self.as_sent = dict.fromkeys(rankers, 0)
        self.request_ns = Histogram()
        self.stages = {name: Histogram() for name in STAGES}
        self.batches = dict.fromkeys(Lane, 0)
        self.batch_rows = Histogram()
        self.engine_ns = dict.fromkeys(Lane, 0)
        self.events = 0
        self.model_changes: dict[tuple[str, str], int] = {}
        self.model_load_ns = Histogram()  # of loads that ended well
        self.model_versions: VersionStates = dict
        self.engine: Callable[[], EngineCounts] = EngineCounts
        self.queue_depth: Gauge = dict
        self.pairs_waiting: Gauge = dict
        self.speculation: Callable[[], Mapping[str, SpeculationCounts]] = dict
        self.store: StoreStats = dict
        self.served_log = ServedLogCounts()

    def request(self, ranker: str, code: int, took_ns: int) -> None:
        """One answered request; a ranker that is not configured counts under "unknown"."""
        key = (ranker if ranker in self.rankers else "unknown", code)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.request_ns.record(took_ns)

    def stage(self, name: str, took_ns: int) -> None:
        """Time of one request in one stage."""
        histogram = self.stages.get(name)
        if histogram is None:
            histogram = self.stages[name] = Histogram()
        histogram.record(took_ns)

    def served(self, model: str, source: Source, age_ms: int, fallback: bool) -> None:
        """One embedding served to one request; age -1: it has none (default)."""
        counts = self.models[model]
        counts.served[source] += 1
        counts.fallbacks += fallback
        if age_ms >= 0:
            counts.age_ms.record(age_ms)

    def served_pairs(self, model: str, counts: Sequence[int], ages_ms: I64) -> None:
        """One request's candidates by `Source`, and the ages of those that have one."""
        pairs = self.pairs[model]
        for source in PAIR_SOURCES:
            pairs.served[source] += counts[source]
        pairs.age_ms.record_many(ages_ms)

    def missed(self, model: str, outcome: str, pairs: int) -> None:
        """`pairs` missed pairs ended with one of MISSED_OUTCOMES."""
        self.pairs[model].missed[outcome] += pairs

    def proposed(self, model: str, outcome: str, pairs: int) -> None:
        """`pairs` pairs that no request had missed ended with one of MISSED_OUTCOMES."""
        self.pairs[model].proposed[outcome] += pairs

    def batch(self, lane: Lane, rows: int, engine_ns: int) -> None:
        """One batch given to the engine."""
        self.batches[lane] += 1
        self.batch_rows.record(rows)
        self.engine_ns[lane] += engine_ns

    def ran(self, lane: Lane, engine_ns: int) -> None:
        """One ranking or one batch of pairs on the engine: not users, so without their number."""
        self.batches[lane] += 1
        self.engine_ns[lane] += engine_ns

    def inferred(self, model: str, lane: Lane, outcome: str, users: int) -> None:
        """`users` users put through the model with one of INFERENCE_OUTCOMES."""
        self.models[model].inferences[lane, outcome] += users

    def refreshed(self, model: str, outcome: str, users: int = 1) -> None:
        """`users` scheduled refreshes ended with one of REFRESH_OUTCOMES."""
        self.models[model].refreshes[outcome] += users

    def accepted(self, events: int) -> None:
        """`events` history events acknowledged."""
        self.events += events

    def model_changed(self, model: str, change: str) -> None:
        """One of MODEL_CHANGES was done to a model: user model, pair model or ranker."""
        key = (model, change)
        self.model_changes[key] = self.model_changes.get(key, 0) + 1

    def joined(self, model: str) -> None:
        """A caller joined a computation that was queued or running."""
        self.models[model].coalesced += 1

    def ranked_as_sent(self, ranker: str) -> None:
        """A ranker failed and its request was answered in the order sent."""
        self.as_sent[ranker] += 1

    def retried(self, model: str) -> None:
        """A request with nothing to fall back on asked again after a failed inference."""
        self.models[model].retries += 1

    def snapshot(self) -> dict[str, Any]:
        """Everything as JSON-ready plain data: /info, the demo's table, replay."""
        engine = self.engine()
        return {
            "requests": sum(self.requests.values()),
            "errors": sum(n for (_, code), n in self.requests.items() if code >= 500),
            "request_ms": _quantiles(self.request_ns, 1e-6),
            "stages_ms": {name: _quantiles(h, 1e-6) for name, h in self.stages.items()},
            "batches": sum(self.batches.values()),
            "batch_rows": _quantiles(self.batch_rows, 1.0),
            "engine_busy_s": {lane.name.lower(): ns * 1e-9 for lane, ns in self.engine_ns.items()},
            "engine_ready": engine.ready,
            "engine_restarts": engine.restarts,
            "engine_compiles": engine.compiles,
            "kept": {name: dict(counts) for name, counts in engine.kept.items()},
            "queue_depth": dict(self.queue_depth()),
            "events": self.events,
            "models": {name: _model_snapshot(m) for name, m in self.models.items()},
            "pairs": {name: _pair_snapshot(m) for name, m in self.pairs.items()},
            "pairs_waiting": dict(self.pairs_waiting()),
            "speculation": {n: _speculation_snapshot(c) for n, c in self.speculation().items()},
            "versions": {name: dict(each) for name, each in self.model_versions().items()},
            "store": {name: dict(stats) for name, stats in self.store().items()},
            "served_log": asdict(self.served_log),
        }


def _model_snapshot(model: ModelMetrics) -> dict[str, Any]:
    return {
        "requests": sum(model.served),
        "sources": {source.label: model.served[source] for source in Source},
        "inferences": model.computed(),
        "coalesced": model.coalesced,
        "retries": model.retries,
        "fallbacks": model.fallbacks,
        "refreshes": dict(model.refreshes),
        "age_ms": _quantiles(model.age_ms, 1.0),
    }


def _pair_snapshot(pairs: PairMetrics) -> dict[str, Any]:
    return {
        "asked": sum(pairs.served),
        "sources": {source.label: pairs.served[source] for source in PAIR_SOURCES},
        "missed": dict(pairs.missed),
        "proposed": dict(pairs.proposed),
        "age_ms": _quantiles(pairs.age_ms, 1.0),
    }


def _speculation_snapshot(counts: SpeculationCounts) -> dict[str, Any]:
    ledger = counts.ledger
    ended = {outcome: ledger.total(outcome) for outcome in PAIR_OUTCOMES}
    return {
        "issued": sum(ended.values()) + sum(ledger.open.values()),
        "outcomes": ended,
        "open": dict(ledger.open),
        "unread": ledger.unread,
        "waste": ledger.waste(),
        "lead_ms": _quantiles(ledger.lead_ms, 1.0),
        "age_at_use_ms": _quantiles(ledger.age_at_use_ms, 1.0),
        "tokens": counts.tokens,
        "price": counts.price,
        "throttle": counts.throttle,
        "sentence": counts.sentence,
    }


def _quantiles(histogram: Histogram, scale: float) -> dict[str, float]:
    """p50 and p99; 0 when empty, since JSON has no NaN."""
    if histogram.count == 0:
        return {"p50": 0.0, "p99": 0.0}
    return {"p50": histogram.quantile(0.5) * scale, "p99": histogram.quantile(0.99) * scale}


def cumulative(histogram: Histogram, bounds: I64) -> list[int]:
    """Observations at or below each bound, then all of them."""
    counts = np.asarray(histogram.counts_at(bounds)).tolist()
    return [*counts, histogram.count]
