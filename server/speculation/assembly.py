"""Puts the parts of speculation together: the same in the server, in replay and in simulations."""

from collections.abc import Mapping
from dataclasses import dataclass

from predawn.server.batcher_share import ShareAccount
from predawn.server.clock import Clock
from predawn.server.engine import EmbedsPairs
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import PairCache
from predawn.server.speculation.contract import PredictsPairs
from predawn.server.speculation.ledger import Ledger, LedgerLimits
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.planner import Planner
from predawn.server.speculation.speculator import SpeculatedModel, Speculator

_LEDGER_LEAST, _LEDGER_MOST = 4_096, 4_000_000
_ANY_AGE_MS = 2**53

__all__ = ["EngineTime", "speculator_of"]


@dataclass(frozen=True, slots=True)
class EngineTime:
    """What speculation may use of the engine. share: `Batcher.share_below`, what refreshes leave of
    `background_share`; hang_after_ms: of a slice that took longer, only so much is charged."""

    share: ShareAccount
    background_share: float
    hang_after_ms: int


def speculator_of(
    limits: Mapping[str, PairLimits],
    predictors: Mapping[str, PredictsPairs | None],
    engine: EmbedsPairs,
    cache: PairCache,
    time: EngineTime,
    clock: Clock,
    metrics: Metrics,
    seed: int = 0,
) -> Speculator:
    """A speculator for the pair models of `limits`; a model without a predictor has only its missed
    pairs computed. It hears of invalidations, and `metrics` of it."""
    models = {
        name: _model(name, each, predictors.get(name), cache, time, clock, metrics, seed + at)
        for at, (name, each) in enumerate(limits.items())
    }
    speculator = Speculator(
        engine, cache, models, time.share, time.hang_after_ms, clock, metrics, seed
    )
    cache.on_invalidate(speculator.invalidated)
    metrics.pairs_waiting, metrics.speculation = speculator.waiting, speculator.counts
    return speculator


def _model(
    name: str,
    limits: PairLimits,
    predictor: PredictsPairs | None,
    cache: PairCache,
    time: EngineTime,
    clock: Clock,
    metrics: Metrics,
    seed: int,
) -> SpeculatedModel:
    capacity = min(_LEDGER_MOST, max(_LEDGER_LEAST, limits.capacity))
    ledger = Ledger(
        LedgerLimits(capacity, limits.ttl_ms),
        lambda user, items: cache.peek(name, user, items, _ANY_AGE_MS),
        seed,
    )
    now = clock.monotonic_ns(), clock.wall_ms()
    planner = Planner(name, limits, predictor, ledger, cache, metrics, now, seed)
    return SpeculatedModel(planner, ShareAccount(time.background_share * limits.share, now[0]))
