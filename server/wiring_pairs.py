"""The pair models' side of a configuration: their store with its fills, and who computes them."""

from collections.abc import Mapping

from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.clock import Clock
from predawn.server.config import Config, PairModelConfig
from predawn.server.engine import Engine
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import FillRules, PairCache
from predawn.server.pair_neighbours import NeighbourLimits, Neighbours
from predawn.server.request import Source
from predawn.server.speculation.assembly import EngineTime, speculator_of
from predawn.server.speculation.contract import PredictsPairs
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.predictor import PredictorLimits, predictor_of
from predawn.server.speculation.speculator import Speculator
from predawn.server.wiring_models import Models


def pair_limits(pairs: PairModelConfig) -> PairLimits:
    """What the pairs of a model may cost."""
    speculation = pairs.speculation
    return PairLimits(
        ttl_ms=pairs.ttl,
        queue_limit=pairs.queue_limit,
        batch_users=pairs.batch_users,
        batch_pairs=pairs.batch_pairs,
        capacity=pairs.capacity,
        pairs_per_asked=speculation.pairs_per_asked,
        pairs_per_second=speculation.pairs_per_second,
        share=speculation.share,
        entries=speculation.entries,
        least_chance=speculation.least_chance,
        encode_pairs=speculation.encode_pairs,
        user_share=speculation.user_share,
        fill_value={
            Source[level.upper()]: value
            for level, value in speculation.fill_value.items()
            if level in pairs.fills
        },
    )


def neighbours_of(config: Config, models: Models, clock: Clock) -> dict[str, Neighbours]:
    """By pair model, of those that fill from neighbours."""
    return {
        name: Neighbours(
            pairs.neighbours,
            models.dims[name],
            NeighbourLimits(
                items=pairs.neighbour_items, clusters=pairs.clusters, fill_ttl_ms=pairs.fill_ttl
            ),
            clock,
            config.seed,
        )
        for name, pairs in config.pairs.items()
        if "neighbour" in pairs.fills
    }


def pair_cache_of(
    config: Config, models: Models, neighbours: Mapping[str, Neighbours], clock: Clock
) -> PairCache:
    """The store of all pair models. ConfigError where it does not fit what is there."""
    return PairCache(
        [_table(config, name, models) for name in config.pairs],
        clock,
        place=StorePlace(config.store.path, config.store.huge_pages),
        fills={name: _fill_rules(pairs) for name, pairs in config.pairs.items()},
        neighbours=neighbours,
    )


def speculator_for(
    config: Config,
    engine: Engine,
    cache: PairCache,
    time: EngineTime,
    clock: Clock,
    metrics: Metrics,
) -> Speculator:
    """Computes the pairs of all models, within what each may cost."""
    limits = {name: pair_limits(pairs) for name, pairs in config.pairs.items()}
    predictors = {name: _predictor(config, pairs) for name, pairs in config.pairs.items()}
    return speculator_of(limits, predictors, engine, cache, time, clock, metrics, config.seed)


def _predictor(config: Config, pairs: PairModelConfig) -> PredictsPairs | None:
    speculation = pairs.speculation
    if speculation.predictor == "none":
        return None
    return predictor_of(
        speculation.predictor,
        PredictorLimits(
            ttl_ms=pairs.ttl,
            users=speculation.tracked_users,
            items=speculation.tracked_items,
            lists=speculation.lists,
            popular=speculation.popular_items,
            least_chance=speculation.least_chance,
            seed=config.seed,
        ),
    )


def _fill_rules(pairs: PairModelConfig) -> FillRules:
    order = tuple(Source[level.upper()] for level in pairs.fills)
    return FillRules(order, pairs.fill_ttl, pairs.recent_length)


def _table(config: Config, name: str, models: Models) -> TableSpec:
    return TableSpec(
        model=name,
        dim=models.dims[name],
        average_over=1,
        dtype=config.store.dtype,
        capacity=config.pairs[name].capacity,
        default=models.defaults[name],
        holds="pairs",
    )
