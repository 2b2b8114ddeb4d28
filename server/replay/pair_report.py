"""What a replay found about one model of pairs, JSON-ready."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from predawn.server.replay.pair_asks import Asks
from predawn.server.replay.pair_loss import PairLoss, Served
from predawn.server.replay.pair_options import PairOptions
from predawn.server.replay.pair_recording import uses_of
from predawn.server.replay.pair_world import PairWorld
from predawn.server.request import Source
from predawn.server.traces import Trace


def pair_report(
    trace: Trace, asks: Asks, options: PairOptions, world: PairWorld, loss: PairLoss | None
) -> dict[str, Any]:
    """Figures of the counted asks.

    asked: pairs; sources: of them, by where the served embedding came from; coverage_exact: share
    served their own, coverage_with_fills: share served anything but the default;
    fm_pairs_computed, budget_used: that over asked; waste: share of the computed pairs that no
    request read; lead_ms: from landing to the first read; age_at_use_ms: of all direct reads;
    calibration, ece (expected calibration error), brier, thresholds (precision and recall): of the
    predictor, on what it has said over the last days; throttle: by origin, and why; speculation:
    its own report since the trace began, with the ledger; loss: see `pair_loss`.
    """
    recording = world.recording
    uses = uses_of(trace, asks, recording, world.engine.done)
    sources = recording.sources[asks.counted]
    counts = np.bincount(sources, minlength=len(Source)).tolist()
    direct = sources == Source.DIRECT
    said = world.report()
    predictor = said["predictor"]
    return {
        "predictor": options.predictor,
        "warm_up": _warm_up(asks),
        "budget": options.budget,
        "ttl_ms": options.ttl_ms,
        "capacity": options.capacity,
        "fills": list(options.fills),
        "asked": asks.asked,
        "sources": {source.label: counts[source] for source in Source},
        "coverage_exact": counts[Source.DIRECT] / asks.asked,
        "coverage_with_fills": 1 - counts[Source.DEFAULT] / asks.asked,
        "fm_pairs_computed": uses.computed,
        "budget_used": uses.computed / asks.asked,
        "waste": 1 - uses.used / max(1, uses.computed),
        "lead_ms": quantiles(uses.lead_ms),
        "age_at_use_ms": quantiles(recording.ages_ms[asks.counted][direct]),
        "engine": {
            "batches": world.engine.batches,
            "failed": world.engine.failed,
            "busy_s": world.engine.busy_ns / 1e9,
        },
        "loss": None if loss is None else loss.of(Served(recording.rows, recording.sources)),
        "calibration": predictor.get("calibration", []),
        "ece": predictor.get("expected_calibration_error"),
        "brier": predictor.get("brier"),
        "thresholds": predictor.get("thresholds", []),
        "throttle": {**said["throttle"], "reason": said["reason"]},
        "speculation": said,
    }


def _warm_up(asks: Asks) -> float:
    """Share of the time that is not counted."""
    span_ms = int(asks.t_ms[-1] - asks.t_ms[0])
    return int(asks.t_ms[asks.first] - asks.t_ms[0]) / max(1, span_ms)


def quantiles(values: NDArray[np.int64]) -> dict[str, float]:
    """mean, p50, p90 and p99; 0 when there are none, since JSON has no NaN."""
    if not len(values):
        return {"mean": 0.0, "p50": 0.0, "p90": 0.0, "p99": 0.0}
    p50, p90, p99 = np.quantile(values, [0.5, 0.9, 0.99]).tolist()
    return {"mean": float(values.mean()), "p50": p50, "p90": p90, "p99": p99}
