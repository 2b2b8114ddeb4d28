"""What a replay found, as one JSON object."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from predawn.server.replay.options import ReplayOptions
from predawn.server.replay.world import MODEL, World
from predawn.server.request import Source


@dataclass(frozen=True, slots=True)
class ModelReport:
    """How one user model was served.

    requests: those counted (all; after the warm-up in a comparison of modes); sources: requests by
    source, which add up to them; inferences: users put through the model meanwhile, every attempt;
    inferences_saved: requests less inferences (a compute per request is what `realtime`, and `soap`
    without a direct ttl, ask for); coalesced: callers that joined a compute under way;
    retries: times a request asked again meanwhile because an inference had failed;
    fallbacks_per_request: share that got the default vector; failed_per_request: share not fresh
    because a compute failed, came late or was refused; age_ms: of what was served with an age
    (0: computed for this request); latency_ms: virtual, of whole requests;
    fallbacks_per_request_without_store: share that got the default vector from a server without
    store and without retries, one attempt per request (None: not measured).
    """

    mode: str
    direct_ttl_ms: int
    failover_ttl_ms: int
    requests: int
    sources: dict[str, int]
    direct_hit_rate: float
    inferences: int
    inferences_saved: int
    inferences_saved_share: float
    coalesced: int
    retries: int
    fallbacks_per_request: float
    failed_per_request: float
    age_ms: dict[str, float]
    latency_ms: dict[str, float]
    refreshes: dict[str, int]
    store: dict[str, int]
    loss: dict[str, float | None]
    fallbacks_per_request_without_store: float | None = None


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """The whole. wall_s: what it took; virtual_s: what it covers; oracle, compare, pairs: where
    asked."""

    requests: int
    users: int
    wall_s: float
    virtual_s: float
    cost: dict[str, float]
    seed: int
    models: dict[str, ModelReport]
    oracle: dict[str, Any] | None = None
    compare: dict[str, ModelReport] = field(default_factory=dict[str, ModelReport])
    pairs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def document(self) -> dict[str, Any]:
        """JSON-ready, without the parts that were not asked for."""
        found = asdict(self)
        if self.oracle is None:
            del found["oracle"]
        for name in ("compare", "pairs"):
            if not found[name]:
                del found[name]
        return found


def model_report(
    world: World, options: ReplayOptions, loss: dict[str, float | None]
) -> ModelReport:
    """The figures of one finished replay."""
    recording, metrics = world.recording.since(world.counted_from), world.metrics.models[MODEL]
    requests = len(recording.source)
    sources = np.bincount(recording.source, minlength=len(Source)).tolist()
    inferences = metrics.computed() - world.inferences_before
    ages = options.ages()
    return ModelReport(
        mode=options.mode,
        direct_ttl_ms=ages.direct_ttl_ms,
        failover_ttl_ms=ages.failover_ttl_ms,
        requests=requests,
        sources={source.label: sources[source] for source in Source},
        direct_hit_rate=sources[Source.DIRECT] / requests,
        inferences=inferences,
        inferences_saved=requests - inferences,
        inferences_saved_share=1 - inferences / requests,
        coalesced=metrics.coalesced,
        retries=metrics.retries - world.retries_before,
        fallbacks_per_request=sources[Source.DEFAULT] / requests,
        failed_per_request=float(recording.failed.mean()),
        age_ms=_quantiles(recording.age_ms[recording.age_ms >= 0]),
        latency_ms=_quantiles(recording.took_ns / 1e6),
        refreshes=dict(metrics.refreshes),
        store=world.cache.stats()[MODEL],
        loss=loss,
    )


def _quantiles(values: Any) -> dict[str, float]:
    """mean, p50 and p99; 0 when there are none, since JSON has no NaN."""
    if not len(values):
        return {"mean": 0.0, "p50": 0.0, "p99": 0.0}
    p50, p99 = np.quantile(values, [0.5, 0.99]).tolist()
    return {"mean": float(values.mean()), "p50": p50, "p99": p99}
