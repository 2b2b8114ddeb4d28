"""The served-feature log of a configuration, around the ranking that it logs."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from predawn.server.clock import Clock
from predawn.server.config import Config
from predawn.server.errors import ConfigError
from predawn.server.http.services import Ranking
from predawn.server.metrics import Metrics
from predawn.server.versions import Versions
from predawn.server.wiring_models import Models

if TYPE_CHECKING:
    from predawn.server.served_log_columns import Layout


@asynccontextmanager
async def logged(
    config: Config,
    ranking: Ranking,
    models: Models,
    versions: Versions,
    clock: Clock,
    metrics: Metrics,
) -> AsyncGenerator[Ranking]:
    """The ranking itself where nothing is logged. On the way out what is left is written.
    ConfigError where the directory cannot be made."""
    settings = config.served_log
    if not settings.path:
        yield ranking
        return
    # pyarrow is imported by servers that log, and by no other.
    from predawn.server.served_log import LoggedRanking, ServedLog, ServedLogLimits

    limits = ServedLogLimits(
        settings.share,
        settings.rows_per_file,
        settings.size_limit,
        settings.flush_delay,
        settings.buffer_limit,
    )
    directory, layout = _made(settings.path), _layout(config, models)

    def version(ranker: str) -> int:
        return versions.versions()[ranker].live

    log = ServedLog(directory, layout, limits, version, clock, metrics, config.seed)
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(log.run(), name="served_log")
        yield LoggedRanking(ranking, log)
        await log.close()
        writing.cancel()


def _made(path: str) -> Path:
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{directory} cannot be made: {error.strerror}"
        raise ConfigError("served_log.path", reason) from error
    return directory


def _layout(config: Config, models: Models) -> "Layout":
    from predawn.server.served_log_columns import Layout, RankerInputs

    rankers = {
        name: RankerInputs(
            each.user_models, each.pair_models, each.model.tasks, each.model.item_features
        )
        for name, each in models.rankers.items()
    }
    dims = models.dims
    users = {name: dims[name] for name in config.models}
    pairs = {name: dims[name] for name in config.pairs}
    return Layout(rankers, users, pairs, config.served_log.values)
