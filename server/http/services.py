"""What the HTTP layer needs of the rest of the server: filled in by `wiring`, faked in tests."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from predawn.server.clock import Clock
from predawn.server.config import Config
from predawn.server.history import Events
from predawn.server.metrics import Metrics
from predawn.server.request import RankReply, RankRequest, UserId
from predawn.server.versions import LoadReport, ModelState


class Ranking(Protocol):
    """`server.pipeline.Pipeline`."""

    async def rank(self, request: RankRequest) -> RankReply:
        """Answers one request by its deadline. Overloaded, DeadlineExceeded, InferenceError."""
        ...

    def after_reply(self, request: RankRequest, reply: RankReply) -> None:
        """Called once the reply is on its way: schedules refreshes."""
        ...


class RankerColumns(Protocol):
    """What a ranker takes and gives; no version of it changes them."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of its scores."""
        ...

    @property
    def item_features(self) -> tuple[str, ...]:
        """Names of the numbers that items may have."""
        ...


class EventLog(Protocol):
    """`server.history.History`."""

    def append(self, events: Events) -> "asyncio.Future[int]":
        """Resolves to the number of events once they are committed. RequestError at once."""
        ...


class Hints(Protocol):
    """`server.refresher.Refresher` and `server.speculation.speculator.Speculator`."""

    def hint(self, user: UserId) -> int:
        """A user has arrived: starts what is not fresh; of how many models."""
        ...


class Speculation(Protocol):
    """`server.speculation.speculator.Speculator`."""

    def report(self) -> dict[str, dict[str, Any]]:
        """JSON-ready, by pair model."""
        ...


class Versioning(Protocol):
    """`server.versions.Versions`."""

    def states(self) -> list[ModelState]:
        """All models, in the order of the configuration."""
        ...

    async def load(self, names: Sequence[str] | None, version: int | None) -> LoadReport:
        """Stages a version (None: the newest). UnknownName, Conflict, LoadFailed."""
        ...

    async def swap(self, names: Sequence[str] | None) -> dict[str, int]:
        """Staged -> live; the live versions. UnknownName, Conflict."""
        ...

    async def rollback(self, names: Sequence[str] | None) -> dict[str, int]:
        """Previous -> live; the live versions. UnknownName, Conflict."""
        ...


class Invalidation(Protocol):
    """`server.cache.UserCache`."""

    def invalidate(self, users: Sequence[UserId], models: Sequence[str] | None) -> int:
        """Removes entries of `models` (None: all); how many there were."""
        ...


class PairInvalidation(Protocol):
    """`server.pair_cache.PairCache`."""

    def invalidate(self, users: Sequence[UserId], models: Sequence[str] | None) -> None:
        """Forgets all pairs of `users` of `models` (None: all)."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the routes.

    rankers: by name in the config's order, the first is the default. version: of predawn itself.
    """

    config: Config
    clock: Clock
    metrics: Metrics
    pipeline: Ranking
    history: EventLog
    hints: Sequence[Hints]
    speculation: Speculation
    cache: Invalidation
    pairs: PairInvalidation
    rankers: Mapping[str, RankerColumns]
    versions: Versioning
    version: str
