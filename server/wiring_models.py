"""Which models a configuration names, how each is made, and what the server must know of them.

Invariant: what the server is built from (dims, tasks, default vectors) comes from the models, or
from their snapshots' manifests where nothing else could come out; a ranker that does not fit the
models that it reads is refused before the first request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from predawn.server.clock import Clock, SystemClock
from predawn.server.config import Config, PairModelConfig, RankerConfig, UserModelConfig
from predawn.server.engine import Described, Engine, checked_rows
from predawn.server.engine_loader import Loader
from predawn.server.engine_recent import Recent
from predawn.server.engine_roster import Roster
from predawn.server.errors import ConfigError, InferenceError, nearest
from predawn.server.history_memory import MemoryHistory
from predawn.server.models.alignment_record import first_version, kept_alignment
from predawn.server.models.contract import RankerModel
from predawn.server.models.loading import (
    ModelSource,
    Recipe,
    load_ranker,
    trained_default,
)
from predawn.server.models.snapshots import snapshot_version
from predawn.server.pipeline_rank import ServedRanker
from predawn.server.request import F32, RankBatch, Source, UserBatch

_Described: TypeAlias = Mapping[str, Described]
_Embedding: TypeAlias = UserModelConfig | PairModelConfig
_Configured: TypeAlias = UserModelConfig | PairModelConfig | RankerConfig


@dataclass(frozen=True, slots=True)
class Models:
    """What the server must know of its models. rankers: a mapping to change in place at a swap;
    dims, defaults: of user and pair models, float32 [dim]; versions: of all snapshots, 0 where
    there is none."""

    rankers: dict[str, ServedRanker]
    dims: Mapping[str, int]
    defaults: Mapping[str, F32]
    versions: Mapping[str, int]


class EngineRanker:
    """Stands for a ranker that is not inline: its members; the model itself is the engine's."""

    inline = False

    def __init__(self, name: str, described: Described) -> None:
        self._name = name
        self.tasks = described.tasks
        self.item_features = described.item_features

    def score(self, batch: RankBatch) -> F32:
        """InferenceError: `Engine.score` is the way."""
        raise InferenceError(self._name, "runs in the engine and is not in this process")


def recipes(config: Config) -> dict[str, Recipe]:
    """How every model and ranker is made, by name."""
    engine, history = config.engine, config.history
    common = (engine.device, engine.threads, tuple(history.types), tuple(history.attributes))
    made = {
        name: Recipe(
            "user",
            _source("models", name, each),
            *common,
            each.align,
            history.length,
            config.store.path if each.align and each.snapshot else "",
        )
        for name, each in config.models.items()
    }
    made |= {
        name: Recipe("pair", _source("pairs", name, each), *common, length=history.length)
        for name, each in config.pairs.items()
    }
    rankers = config.rankers.items()
    where = common[:2]
    return made | {
        name: Recipe("ranker", _source("rankers", name, each), *where) for name, each in rankers
    }


def engine_recipes(config: Config) -> dict[str, Recipe]:
    """What the engine makes: all but rankers from snapshots, which are inline. A ranker of your own
    is made there to see whether it is."""
    return {
        name: each
        for name, each in recipes(config).items()
        if each.kind != "ranker" or each.source.is_own
    }


def described_on_disk(config: Config) -> dict[str, Described] | None:
    """What the engine will say of its models, where all of them are from snapshots and the
    manifests already tell; None: it must be asked."""
    made = engine_recipes(config)
    if any(each.source.is_own for each in made.values()):
        return None
    sections = {"user": "user_tower", "pair": "foundation"}
    versions = {name: first_version(name, each) for name, each in made.items()}
    return {
        name: Described(
            versions[name],
            len(trained_default(each.source.snapshot, sections[each.kind], versions[name])),
        )
        for name, each in made.items()
    }


def models_of(config: Config, described: _Described) -> Models:
    """Everything that `[models]`, `[pairs]` and `[rankers]` name, with what the engine says of its
    part; makes the inline rankers and tries them. ConfigError names the setting, SnapshotError the
    file."""
    embedding: Mapping[str, _Embedding] = {**config.models, **config.pairs}
    dims = {name: described[name].dim for name in embedding}
    rankers = {name: _ranker(name, each, described) for name, each in config.rankers.items()}
    paths: Mapping[str, _Configured] = {**embedding, **config.rankers}
    versions = {
        name: snapshot_version(each.snapshot) if each.snapshot else 0
        for name, each in paths.items()
    }
    versions |= {name: each.version for name, each in described.items()}
    defaults = {
        name: _user_default(config, name, dims[name], versions[name]) for name in config.models
    }
    defaults |= {
        name: _default(f"pairs.{name}.default", each, "foundation", dims[name], versions[name])
        for name, each in config.pairs.items()
    }
    models = Models(rankers, dims, defaults, versions)
    for name, ranker in rankers.items():
        if ranker.model.inline:
            _try(config, models, name, ranker.model)
            ranker.recent.append(_trial(config, models, name, ranker.model))
    return models


def load_models(config: Config, clock: Clock | None = None) -> Models:
    """Makes and tries every model in this process: `predawn check`. Errors as `models_of`."""
    roster = Roster()
    recent = Recent(nobody(config), config.batcher.batch_limit)
    loader = Loader(engine_recipes(config), roster, recent, clock or SystemClock())
    models = models_of(config, {name: loader.start(name) for name in engine_recipes(config)})
    for name, ranker in models.rankers.items():
        if not ranker.model.inline:
            _try(config, models, name, cast(RankerModel, roster.live(name).model))
    return models


async def try_in_engine(config: Config, models: Models, engine: Engine) -> None:
    """Has the engine score one candidate with each ranker that runs there. ConfigError."""
    for name, ranker in models.rankers.items():
        if not ranker.model.inline:
            batch = _trial(config, models, name, ranker.model)
            try:
                await engine.score(name, batch)
            except InferenceError as error:
                raise _misfit(config, name, batch, error) from error


def nobody(config: Config) -> UserBatch:
    """A user without a past: what every user model is tried on first."""
    history = config.history
    return MemoryHistory(history.types, history.attributes, history.length).gather([0])


def _source(table: str, name: str, model: _Configured) -> ModelSource:
    setting = f"{table}.{name}"
    return ModelSource(setting, model.snapshot, model.factory, model.options, model.program)


def _ranker(name: str, ranker: RankerConfig, described: _Described) -> ServedRanker:
    model: RankerModel
    if name in described and not described[name].inline:
        model = EngineRanker(name, described[name])
    else:
        model = load_ranker(_source("rankers", name, ranker))
    task = _task(f"rankers.{name}.task", ranker.task, model)
    users, pairs = tuple(ranker.user_models), tuple(ranker.pair_models)
    as_sent = ranker.on_failure == "as_sent"
    return ServedRanker(name, model, users, task, pairs, as_sent)


def _task(setting: str, task: str, model: RankerModel) -> int:
    """The column of the configured task; the first for ""."""
    if not task:
        return 0
    if task not in model.tasks:
        near = nearest(task, model.tasks)
        hint = f"did you mean {near!r}?" if near else f"it has {', '.join(model.tasks)}"
        raise ConfigError(setting, f"the ranker has no task {task!r}; {hint}")
    return model.tasks.index(task)


def _try(config: Config, models: Models, name: str, model: RankerModel) -> None:
    """Scores one candidate: a ranker trained on another number of values is found here."""
    batch = _trial(config, models, name, model)
    try:
        checked_rows(f"rankers.{name}", model.score(batch), (1, len(model.tasks)))
    except Exception as error:
        raise _misfit(config, name, batch, error) from error


def _trial(config: Config, models: Models, name: str, model: RankerModel) -> RankBatch:
    """One candidate of a user of whom nothing is known."""
    ranker, dims = config.rankers[name], models.dims
    count = 1 if ranker.pair_models else 0
    return RankBatch(
        user=np.zeros((1, sum(dims[each] for each in ranker.user_models)), dtype=np.float32),
        sources=np.full((1, len(ranker.user_models)), Source.DEFAULT, dtype=np.uint8),
        offsets=np.array([0, 1], dtype=np.int64),
        item_hashes=np.zeros(1, dtype=np.uint64),
        item_features=np.zeros((1, len(model.item_features)), dtype=np.float32),
        pairs=np.zeros((count, sum(dims[each] for each in ranker.pair_models)), dtype=np.float32),
        pair_sources=np.full((count, len(ranker.pair_models)), Source.DEFAULT, dtype=np.uint8),
    )


def _misfit(config: Config, name: str, batch: RankBatch, error: Exception) -> ConfigError:
    ranker = config.rankers[name]
    read = ", ".join([*ranker.user_models, *ranker.pair_models])
    width = batch.user.shape[1] + batch.pairs.shape[1]
    reason = f"a trial on one candidate with {width} values of {read} failed: {error}"
    return ConfigError(f"rankers.{name}", reason)


def _user_default(config: Config, name: str, dim: int, version: int) -> F32:
    """A trained mean is turned as the embeddings are."""
    model = config.models[name]
    default = _default(f"models.{name}.default", model, "user_tower", dim, version)
    if model.default != "mean":
        return default
    matrix = kept_alignment(name, recipes(config)[name], version)
    return default if matrix is None else default @ matrix


def _default(setting: str, model: _Embedding, section: str, dim: int, version: int) -> F32:
    if isinstance(model.default, list):
        if len(model.default) != dim:
            raise ConfigError(setting, f"has {len(model.default)} values, the model has {dim}")
        return np.array(model.default, dtype=np.float32)
    if model.default == "zeros":
        return np.zeros(dim, dtype=np.float32)
    if not model.snapshot:
        raise ConfigError(setting, '"mean" needs a snapshot, which knows its mean embedding')
    return trained_default(model.snapshot, section, version)
