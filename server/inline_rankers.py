"""The rankers that run on the event loop, and their versions.

Invariant: a new version is loaded and tried in a thread that gives way to the loop, on the batches
that the live one scored last; the loop itself only exchanges references. Used on the event loop's
thread only.
"""

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import cast

from predawn.server.clock import Clock
from predawn.server.engine import Loaded, ModelVersions
from predawn.server.engine_loader import Aside, Loader
from predawn.server.engine_recent import Recent
from predawn.server.engine_roster import Held, Roster
from predawn.server.models.contract import RankerModel
from predawn.server.models.loading import Recipe
from predawn.server.pipeline_rank import ServedRanker


class InlineRankers:
    """rankers: what the pipeline reads, changed in place; those that are not inline are left
    alone. recipes, versions: by name (0: no snapshot); recent: empty, for the batches that a new
    version is tried on."""

    def __init__(
        self,
        rankers: MutableMapping[str, ServedRanker],
        recipes: Mapping[str, Recipe],
        versions: Mapping[str, int],
        recent: Recent,
        clock: Clock,
    ) -> None:
        self._rankers = rankers
        self._recent = recent
        self._roster = Roster()
        self._loader = Loader(recipes, self._roster, recent, clock)
        self._aside = Aside()
        for name, each in rankers.items():
            if each.model.inline:
                self._roster.hold(name, Held(each.model, versions.get(name, 0)))

    def close(self) -> None:
        """Waits for nothing: a load under way is left to its thread."""
        self._aside.close()

    def versions(self) -> dict[str, ModelVersions]:
        """By name, of every inline ranker."""
        return self._roster.versions()

    async def load(self, name: str, version: int | None) -> Loaded:
        """See `Engine.load`."""
        for batch in self._rankers[name].recent:
            self._recent.saw_ranking(name, batch)
        loop = asyncio.get_running_loop()
        loaded: asyncio.Future[Loaded] = loop.create_future()

        def work() -> None:
            try:
                outcome: Loaded | Exception = self._loader.load(name, version)[0]
            except Exception as error:
                outcome = error
            except BaseException as error:  # a factory that calls sys.exit must not end unheard
                outcome = RuntimeError(repr(error))
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, loaded, outcome)

        self._aside.run(work)
        return await loaded

    def discard(self, names: Sequence[str]) -> None:
        """Forgets the staged versions, where there are any."""
        self._roster.discard(names)
        self._aside.run(self._roster.forget)

    def swap(self, names: Sequence[str]) -> None:
        """Makes the staged versions live, all or none; those that served are kept as previous."""
        self._roster.swap(names)
        self._serve(names)

    def rollback(self, names: Sequence[str]) -> None:
        """Makes the previous versions live, all or none; those that served are staged."""
        self._roster.rollback(names)
        self._serve(names)

    def _serve(self, names: Sequence[str]) -> None:
        for name in names:
            live = cast(RankerModel, self._roster.live(name).model)
            self._rankers[name] = replace(self._rankers[name], model=live)
        self._aside.run(self._roster.forget)


def _deliver(loaded: asyncio.Future[Loaded], outcome: Loaded | Exception) -> None:
    if loaded.done():
        return
    if isinstance(outcome, Exception):
        loaded.set_exception(outcome)
    else:
        loaded.set_result(outcome)
