"""Builds the server from its configuration: the only place that names concrete classes.

Invariant: what is started here ends here, in the reverse order; a background task that dies takes
the server down with its error instead of leaving it half alive.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata

from predawn.server.batcher import Batcher, BatcherLimits
from predawn.server.cache import StorePlace, TableSpec, UserCache
from predawn.server.clock import Clock, SystemClock
from predawn.server.config import Config, UserModelConfig
from predawn.server.engine_thread import ThreadEngine
from predawn.server.history import History
from predawn.server.http.services import Services
from predawn.server.metrics import Metrics
from predawn.server.pipeline import Pipeline
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.refresher import Refresher
from predawn.server.wiring_models import (
    Models,
    engine_recipes,
    models_of,
    nobody,
    try_in_engine,
)


@asynccontextmanager
async def running(config: Config, clock: Clock | None = None) -> AsyncGenerator[Services]:
    """The server behind the routes, with its threads and tasks; ends them on the way out."""
    clock = clock or SystemClock()
    metrics = Metrics(tuple(config.models), tuple(config.rankers))
    async with AsyncExitStack() as ends:
        history = History.from_config(config.history, clock, config.seed)
        history.open()
        ends.callback(history.close)
        engine = ThreadEngine(
            engine_recipes(config),
            nobody(config),
            history.gather,
            clock,
            metrics,
            config.batcher.batch_limit,
            config.engine.nice,
        )
        engine.start()
        ends.callback(engine.close)
        models = models_of(config, await engine.ready())
        await try_in_engine(config, models, engine)
        policies = {name: _policy(each) for name, each in config.models.items()}
        cache = UserCache(
            [_table(config, name, models) for name in config.models],
            clock,
            config.store.flush_delay,
            config.store.flush_rows,
            place=StorePlace(config.store.path, config.store.huge_pages),
        )
        ends.callback(cache.close)
        limits = _batcher_limits(config)
        batcher = Batcher(engine, cache.land, cache.flushed, clock, limits, metrics)
        cache.on_invalidate(batcher.invalidated)
        refresher = Refresher(batcher, cache, policies, history.users, clock, metrics)
        metrics.queue_depth, metrics.store = batcher.depths, cache.stats
        pipeline = Pipeline(
            cache,
            batcher,
            refresher.schedule,
            engine.score,
            policies,
            models.rankers,
            clock,
            metrics,
        )
        tasks = await ends.enter_async_context(asyncio.TaskGroup())
        background = [
            tasks.create_task(work, name=name)
            for name, work in {
                "cache": cache.run(),
                "batcher": batcher.run(),
                "refresher": refresher.run(),
                "history": history.run(),
            }.items()
        ]
        yield Services(
            config=config,
            clock=clock,
            metrics=metrics,
            pipeline=pipeline,
            history=history,
            refresher=refresher,
            cache=cache,
            rankers={name: each.model for name, each in models.rankers.items()},
            snapshots=models.versions,
            version=metadata.version("predawn"),
        )
        await batcher.close()
        for task in background:
            task.cancel()


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
