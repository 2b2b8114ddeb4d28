"""Builds the server from its configuration: the only place that names concrete classes.

Invariant: what is started here ends here, in the reverse order; a background task that dies takes
the server down with its error instead of leaving it half alive.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from predawn.server.batcher import Batcher, BatcherLimits
from predawn.server.cache import StorePlace, TableSpec, UserCache
from predawn.server.clock import Clock, SystemClock
from predawn.server.config import Config, RankerConfig, UserModelConfig
from predawn.server.engine import checked_rows
from predawn.server.engine_thread import ThreadEngine
from predawn.server.errors import ConfigError, nearest
from predawn.server.history import History
from predawn.server.history_memory import MemoryHistory
from predawn.server.http.services import Services
from predawn.server.metrics import Metrics
from predawn.server.models.contract import RankerModel, UserModel
from predawn.server.models.loading import (
    ModelSource,
    load_ranker,
    load_user_model,
    trained_default,
)
from predawn.server.models.snapshots import snapshot_version
from predawn.server.pipeline import Pipeline
from predawn.server.pipeline_rank import ServedRanker
from predawn.server.policy import Ages, Mode, ModelPolicy
from predawn.server.refresher import Refresher
from predawn.server.request import F32, RankBatch, Source


@dataclass(frozen=True, slots=True)
class Models:
    """Everything that `[models]` and `[rankers]` name, loaded and checked against each other.

    defaults: float32 [dim] by user model; versions: of the snapshots, 0 where there is none.
    """

    users: Mapping[str, UserModel]
    rankers: Mapping[str, ServedRanker]
    defaults: Mapping[str, F32]
    versions: Mapping[str, int]


def load_models(config: Config) -> Models:
    """Loads all models. ConfigError names the setting, SnapshotError the file."""
    users = {name: _user_model(config, name, each) for name, each in config.models.items()}
    rankers = {name: _ranker(name, each) for name, each in config.rankers.items()}
    defaults = {
        name: _default(f"models.{name}.default", each, users[name].dim)
        for name, each in config.models.items()
    }
    paths = {name: each.snapshot for name, each in config.rankers.items()}
    paths |= {name: each.snapshot for name, each in config.models.items()}
    versions = {name: snapshot_version(path) if path else 0 for name, path in paths.items()}
    for name, model in users.items():
        _try_user_model(f"models.{name}", model, config)
    for name, ranker in rankers.items():
        _try_ranker(f"rankers.{name}", ranker, users)
    return Models(users, rankers, defaults, versions)


@asynccontextmanager
async def running(config: Config, clock: Clock | None = None) -> AsyncGenerator[Services]:
    """The server behind the routes, with its threads and tasks; ends them on the way out."""
    clock = clock or SystemClock()
    models = load_models(config)
    metrics = Metrics(tuple(config.models), tuple(config.rankers))
    async with AsyncExitStack() as ends:
        history = History.from_config(config.history, clock, config.seed)
        history.open()
        ends.callback(history.close)
        rankers = {name: each.model for name, each in models.rankers.items()}
        engine = ThreadEngine(
            models.users,
            rankers,
            history.gather,
            clock,
            metrics,
            models.versions,
            config.engine.nice,
        )
        engine.start()
        ends.callback(engine.close)
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
            rankers=rankers,
            snapshots=models.versions,
            version=metadata.version("predawn"),
        )
        await batcher.close()
        for task in background:
            task.cancel()


def _user_model(config: Config, name: str, model: UserModelConfig) -> UserModel:
    history = config.history
    return load_user_model(
        ModelSource(f"models.{name}", model.snapshot, model.factory, model.options),
        device=config.engine.device,
        threads=config.engine.threads,
        types=history.types,
        attributes=history.attributes,
    )


def _ranker(name: str, ranker: RankerConfig) -> ServedRanker:
    setting = f"rankers.{name}"
    model = load_ranker(
        ModelSource(setting, ranker.snapshot, ranker.factory, ranker.options),
    )
    task = _task(f"{setting}.task", ranker.task, model)
    return ServedRanker(name, model, tuple(ranker.user_models), task)


def _task(setting: str, task: str, model: RankerModel) -> int:
    """The column of the configured task; the first for ""."""
    if not task:
        return 0
    if task not in model.tasks:
        near = nearest(task, model.tasks)
        hint = f"did you mean {near!r}?" if near else f"it has {', '.join(model.tasks)}"
        raise ConfigError(setting, f"the ranker has no task {task!r}; {hint}")
    return model.tasks.index(task)


def _try_user_model(setting: str, model: UserModel, config: Config) -> None:
    """Embeds a user without a past: what breaks its contract is found before the first request,
    and the first request does not pay for warming up."""
    history = config.history
    nobody = MemoryHistory(history.types, history.attributes, history.length).gather([0])
    try:
        row = checked_rows(setting, model.embed(nobody), (1, model.dim))
    except Exception as error:
        reason = f"a trial on a user without history failed: {error}"
        raise ConfigError(setting, reason) from error
    if not np.isfinite(row).all():
        raise ConfigError(setting, "a trial on a user without history gave values not finite")


def _try_ranker(setting: str, ranker: ServedRanker, users: Mapping[str, UserModel]) -> None:
    """Scores one candidate: a ranker trained on another number of user values is found here."""
    width = sum(users[model].dim for model in ranker.user_models)
    batch = RankBatch(
        user=np.zeros((1, width), dtype=np.float32),
        sources=np.full((1, len(ranker.user_models)), Source.DEFAULT, dtype=np.uint8),
        offsets=np.array([0, 1], dtype=np.int64),
        item_hashes=np.zeros(1, dtype=np.uint64),
        item_features=np.zeros((1, len(ranker.model.item_features)), dtype=np.float32),
    )
    try:
        checked_rows(setting, ranker.model.score(batch), (1, len(ranker.model.tasks)))
    except Exception as error:
        models = ", ".join(ranker.user_models)
        reason = f"a trial on one candidate with {width} values of {models} failed: {error}"
        raise ConfigError(setting, reason) from error


def _default(setting: str, model: UserModelConfig, dim: int) -> F32:
    if isinstance(model.default, list):
        if len(model.default) != dim:
            raise ConfigError(setting, f"has {len(model.default)} values, the model has {dim}")
        return np.array(model.default, dtype=np.float32)
    if model.default == "zeros":
        return np.zeros(dim, dtype=np.float32)
    if not model.snapshot:
        raise ConfigError(setting, '"mean" needs a snapshot, which knows its mean embedding')
    return trained_default(model.snapshot)


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
        dim=models.users[name].dim,
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
