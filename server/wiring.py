"""Builds the server from its configuration: the only place that names concrete classes.

Invariant: what is started here ends here, in the reverse order; a background task that dies takes
the server down with its error instead of leaving it half alive.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata

from predawn.server.batcher import Batcher, BatcherLimits
from predawn.server.cache import StorePlace, TableSpec, UserCache
from predawn.server.clock import Clock, SystemClock
from predawn.server.config import Config, PairModelConfig, UserModelConfig
from predawn.server.engine import Described, Engine
from predawn.server.engine_process import ProcessEngine
from predawn.server.engine_recent import Recent
from predawn.server.engine_supervisor import Watch
from predawn.server.engine_thread import ThreadEngine
from predawn.server.history import History
from predawn.server.http.services import Services
from predawn.server.inline_rankers import InlineRankers
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import PairCache
from predawn.server.pipeline import Pipeline
from predawn.server.pipeline_pairs import PairReader
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.refresher import Refresher
from predawn.server.speculation.assembly import EngineTime
from predawn.server.versions import ServedModel, Versions
from predawn.server.wiring_models import (
    Models,
    described_on_disk,
    engine_recipes,
    models_of,
    nobody,
    recipes,
    try_in_engine,
)
from predawn.server.wiring_pairs import neighbours_of, pair_cache_of, speculator_for
from predawn.server.wiring_served_log import logged

_HANGS = 5  # a batch counts as hung; after so many times as long its process is killed


@asynccontextmanager
async def running(config: Config, clock: Clock | None = None) -> AsyncGenerator[Services]:
    """The server behind the routes, with its threads and tasks; ends them on the way out."""
    clock = clock or SystemClock()
    metrics = Metrics(tuple(config.models), tuple(config.rankers), tuple(config.pairs))
    async with AsyncExitStack() as ends:
        history = History.from_config(config.history, clock, config.seed)
        history.open()
        ends.callback(history.close)
        expected = described_on_disk(config) if config.engine.isolation == "process" else None
        engine = _engine(config, history, expected, clock, metrics)
        engine.start()
        ends.callback(engine.close)
        models = models_of(config, expected or await engine.ready())
        if expected is None:
            await try_in_engine(config, models, engine)
        policies = {name: _policy(each) for name, each in config.models.items()}
        neighbours = neighbours_of(config, models, clock)
        cache = _user_cache(config, models, clock)
        pair_cache = pair_cache_of(config, models, neighbours, clock)
        ends.callback(cache.close)
        ends.callback(pair_cache.close)
        cache.on_land(pair_cache.renewed)
        limits = _batcher_limits(config)
        batcher = Batcher(engine, cache.land, cache.flushed, clock, limits, metrics)
        cache.on_invalidate(batcher.invalidated)
        refresher = Refresher(batcher, cache, policies, history.users, clock, metrics)
        time = _engine_time(config, batcher)
        speculator = speculator_for(config, engine, pair_cache, time, clock, metrics)
        metrics.queue_depth = batcher.depths
        metrics.store = lambda: {**cache.stats(), **pair_cache.stats()}
        pairs = PairReader(pair_cache, _ttls_ms(config), speculator, metrics)
        schedule, score, rankers = refresher.schedule, engine.score, models.rankers
        pipeline = Pipeline(
            cache, pairs, batcher, schedule, score, policies, rankers, clock, metrics
        )
        versions = _versions(config, models, engine, cache, pair_cache, clock, metrics)
        ends.callback(versions.close)
        served = logged(config, pipeline, models, versions, clock, metrics)
        ranking = await ends.enter_async_context(served)
        tasks = await ends.enter_async_context(asyncio.TaskGroup())
        work = {
            "cache": cache.run(),
            "batcher": batcher.run(),
            "refresher": refresher.run(),
            "speculator": speculator.run(),
            "history": history.run(),
            "models": engine.ready(),
            **{f"neighbours of {name}": each.run() for name, each in neighbours.items()},
        }
        background = [tasks.create_task(each, name=name) for name, each in work.items()]
        yield Services(
            config=config,
            clock=clock,
            metrics=metrics,
            pipeline=ranking,
            history=history,
            hints=(refresher, speculator),
            speculation=speculator,
            cache=cache,
            pairs=pair_cache,
            rankers=_columns(models),
            versions=versions,
            version=metadata.version("predawn"),
        )
        await batcher.close()
        for task in background:
            task.cancel()


def _engine(
    config: Config,
    history: History,
    expected: Mapping[str, Described] | None,
    clock: Clock,
    metrics: Metrics,
) -> ThreadEngine | ProcessEngine:
    """expected: what the snapshots tell of the models already: the server serves before a process
    has loaded them, and a model that cannot be loaded then ends it."""
    engine = config.engine
    made = (engine_recipes(config), nobody(config), history.gather, clock, metrics)
    common = (*made, config.batcher.batch_limit, engine.nice)
    if engine.isolation == "thread":
        return ThreadEngine(*common)
    watch = Watch(hang_ms=_HANGS * engine.hang_after)
    return ProcessEngine(*common, watch, expected)


def _user_cache(config: Config, models: Models, clock: Clock) -> UserCache:
    return UserCache(
        [_table(config, name, models) for name in config.models],
        clock,
        config.store.flush_delay,
        config.store.flush_rows,
        place=StorePlace(config.store.path, config.store.huge_pages),
    )


def _engine_time(config: Config, batcher: Batcher) -> EngineTime:
    engine = config.engine
    return EngineTime(batcher.share_below(), engine.background_share, engine.hang_after)


def _versions(
    config: Config,
    models: Models,
    engine: Engine,
    cache: UserCache,
    pairs: PairCache,
    clock: Clock,
    metrics: Metrics,
) -> Versions:
    recent = Recent(nobody(config), config.batcher.batch_limit)
    on_loop = InlineRankers(models.rankers, recipes(config), models.versions, recent, clock)
    embedding: dict[str, UserModelConfig | PairModelConfig] = {**config.models, **config.pairs}
    means = {name for name, each in embedding.items() if each.default == "mean"}
    served = {
        name: ServedModel(recipe, models.dims.get(name, 0), mean_default=name in means)
        for name, recipe in recipes(config).items()
    }
    versions = Versions(served, engine, on_loop, cache, pairs, clock, metrics)
    metrics.model_versions = versions.numbers
    return versions


def _columns(models: Models) -> dict[str, Described]:
    """What the rankers take and give, without the models, whose versions come and go."""
    versions = models.versions
    return {
        name: Described(versions[name], 0, each.model.tasks, each.model.item_features)
        for name, each in models.rankers.items()
    }


def _policy(model: UserModelConfig) -> ModelPolicy:
    return ModelPolicy(
        mode=Mode[model.mode.upper()],
        ages=Ages(model.direct_ttl, model.failover_ttl),
        wait_ms=model.wait,
        batch_every_ms=model.batch_every,
        retries=model.retries,
    )


def _table(config: Config, name: str, models: Models) -> TableSpec:
    model = config.models[name]
    return TableSpec(
        model=name,
        dim=models.dims[name],
        average_over=model.average_over,
        dtype=config.store.dtype,
        capacity=config.store.capacity,
        default=models.defaults[name],
        failover_ttl_ms=model.failover_ttl,
        average_weight=model.average_weight if model.average == "exponential" else None,
    )


def _ttls_ms(config: Config) -> dict[str, int]:
    return {name: each.ttl for name, each in config.pairs.items()}


def _batcher_limits(config: Config) -> BatcherLimits:
    batcher, engine = config.batcher, config.engine
    return BatcherLimits(
        batch_limit=batcher.batch_limit,
        wait_window_ms=batcher.wait_window,
        refresh_window_ms=batcher.refresh_window,
        wait_queue_limit=batcher.wait_queue_limit,
        refresh_queue_limit=batcher.refresh_queue_limit,
        background_share=engine.background_share,
        hang_after_ms=engine.hang_after,
        seed=config.seed,
    )
