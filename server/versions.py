"""Versions of models in a running server: loaded beside what serves, swapped, kept to go back to.

Invariant: a load changes nothing that serves, and one that fails leaves what was staged as it was.
A swap or rollback changes all its models or none: the engine's between two batches, and right
after, in one step of the event loop, the rankers that run on the loop, the default vectors and
which version's pairs are served. Used on the event loop's thread only.
"""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from predawn.server.cache import UserCache
from predawn.server.clock import Clock
from predawn.server.engine import Loaded, ModelVersions, VersionedEngine
from predawn.server.errors import (
    Conflict,
    InferenceError,
    LoadFailed,
    PredawnError,
    UnknownName,
)
from predawn.server.inline_rankers import InlineRankers
from predawn.server.metrics import Metrics
from predawn.server.models.catalogue import pairs_alike
from predawn.server.models.loading import Recipe
from predawn.server.models.snapshots import snapshot_version
from predawn.server.pair_cache import PairCache
from predawn.server.request import F32

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_Change: TypeAlias = Literal["swap", "rollback"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A configured model. dim: values per user or pair, 0 for a ranker; mean_default: absent users
    are served the trained mean, which changes with the version."""

    recipe: Recipe
    dim: int = 0
    mean_default: bool = False


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model and its versions. loading: a load of it is under way; error: why its last load
    failed, "" after one that did not."""

    name: str
    model: ServedModel
    versions: ModelVersions
    loading: bool
    error: str


@dataclass(frozen=True, slots=True)
class LoadReport:
    """loaded: what is staged now; unchanged: models whose version was live or staged already."""

    loaded: tuple[Loaded, ...]
    unchanged: tuple[str, ...]


@dataclass(slots=True)
class _Means:
    """Default vectors of the versions beside the live one, whose own is in the cache."""

    staged: F32 | None = None
    previous: F32 | None = None


class Versions:
    """models: everything that the server runs, by name; cache, pairs: whose default vectors follow,
    and whose pairs."""

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        engine: VersionedEngine,
        on_loop: InlineRankers,
        cache: UserCache,
        pairs: PairCache,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._models = models
        self._engine = engine
        self._on_loop = on_loop
        self._pairs = pairs
        live = {name: engine.versions()[name].live for name in pairs.models()}
        self._alike = {name: {live[name]: self._alike_on_disk(name, live[name])} for name in live}
        for name, version in live.items():
            self._serve_pairs(name, version)
        self._defaults: dict[str, UserCache | PairCache] = {
            **dict.fromkeys(cache.models(), cache),
            **dict.fromkeys(pairs.models(), pairs),
        }
        self._clock = clock
        self._metrics = metrics
        self._inline = frozenset(on_loop.versions())
        self._means = {name: _Means() for name, each in models.items() if each.mean_default}
        self._errors: dict[str, str] = {}
        self._loading: tuple[str, ...] = ()
        self._changing: _Change | None = None
        self._last_swap: tuple[str, ...] = ()
        self._tasks: set[asyncio.Task[Any]] = set()

    def versions(self) -> dict[str, ModelVersions]:
        """By name, in the order of the configuration."""
        known = self._engine.versions() | self._on_loop.versions()
        return {name: known[name] for name in self._models}

    def numbers(self) -> dict[str, dict[str, int]]:
        """The same as plain numbers, for the metrics: state -> version, by name."""
        states = {name: asdict(each) for name, each in self.versions().items()}
        return {
            name: {state: number for state, number in each.items() if number is not None}
            for name, each in states.items()
        }

    def states(self) -> list[ModelState]:
        """All models, in the order of the configuration."""
        return [
            ModelState(
                name, self._models[name], each, name in self._loading, self._errors.get(name, "")
            )
            for name, each in self.versions().items()
        ]

    async def load(
        self, names: Sequence[str] | None = None, version: int | None = None
    ) -> LoadReport:
        """Loads `version` (None: the newest) of `names` (None: all that have a snapshot) and stages
        all of them or none. Goes on when the caller goes away. UnknownName; Conflict; LoadFailed,
        which names the model's setting."""
        wanted = self._with_snapshot(names)
        self._nothing_under_way(self._models)
        self._loading = wanted
        return await self._to_the_end(self._load(wanted, version))

    async def swap(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """Makes the staged versions of `names` (None: all that are staged) live and keeps those
        that served for `rollback`. Returns the live versions. UnknownName, Conflict."""
        staged = [name for name, each in self.versions().items() if each.staged is not None]
        chosen = self._chosen(names, staged, "staged: load one first")
        self._changing = "swap"
        return await self._to_the_end(self._change("swap", chosen))

    async def rollback(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """Makes the previous versions of `names` (None: of what the last swap changed) live again
        and stages those that served. Returns the live versions. UnknownName, Conflict."""
        previous = [name for name, each in self.versions().items() if each.previous is not None]
        if names is None:
            previous = [name for name in previous if name in self._last_swap]
        chosen = self._chosen(names, previous, "there to go back to: a swap can be undone once")
        self._changing = "rollback"
        return await self._to_the_end(self._change("rollback", chosen))

    def close(self) -> None:
        """Gives up what is under way."""
        for task in self._tasks:
            task.cancel()
        self._on_loop.close()

    def _with_snapshot(self, names: Sequence[str] | None) -> tuple[str, ...]:
        self._check_known(names)
        known = [name for name, each in self._models.items() if each.recipe.source.snapshot]
        for at, name in enumerate(names or ()):
            if name not in known:
                reason = f"{name} has no snapshot, so there are no versions of it to load"
                raise Conflict(f"models[{at}]", reason)
        if not (names or known):
            raise Conflict("", "no model has a snapshot, so there are no versions to load")
        return tuple(known if names is None else dict.fromkeys(names))

    def _chosen(
        self, names: Sequence[str] | None, possible: Sequence[str], missing: str
    ) -> tuple[str, ...]:
        self._check_known(names)
        self._nothing_under_way(possible if names is None else names)
        for at, name in enumerate(names or ()):
            if name not in possible:
                raise Conflict(f"models[{at}]", f"no version of {name} is {missing}")
        if not (names or possible):
            raise Conflict("", f"no version is {missing}")
        return tuple(possible if names is None else dict.fromkeys(names))

    def _check_known(self, names: Sequence[str] | None) -> None:
        for at, name in enumerate(names or ()):
            if name not in self._models:
                raise UnknownName(f"models[{at}]", name, self._models)

    def _nothing_under_way(self, names: Collection[str]) -> None:
        """Conflict when another change is not over, or one of `names` is being loaded."""
        if self._changing:
            raise Conflict("", f"a {self._changing} is under way: wait for its end")
        loading = [name for name in self._loading if name in names]
        if loading:
            raise Conflict("", f"a load of {', '.join(loading)} is under way: wait for its end")

    async def _to_the_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Awaits `work`, which goes on when the waiting is cancelled: half a change is none."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOG.warning("%s", task.exception())

    async def _load(self, names: Sequence[str], version: int | None) -> LoadReport:
        before, began_ns = self.versions(), self._clock.monotonic_ns()
        loaded: list[Loaded] = []
        name = ""
        try:
            for name in names:
                target = version or await self._newest(name)
                if target not in (before[name].live, before[name].staged):
                    loaded.append(await self._load_one(name, target))
                    self._keep_mean(loaded[-1])
                    if name in self._alike:
                        alike = await asyncio.to_thread(self._alike_on_disk, name, target)
                        self._alike[name][target] = alike
        except Exception as error:
            self._errors[name] = _reason(error)
            self._metrics.model_changed(name, "load_failed")
            for each in loaded:
                await self._restore(each.name, before[each.name].staged)
            raise LoadFailed(self._models[name].recipe.source.setting, _reason(error)) from error
        finally:
            self._loading = ()
        for name in names:
            self._errors.pop(name, None)
        for each in loaded:
            self._metrics.model_changed(each.name, "load")
        if loaded:
            self._metrics.model_load_ns.record(self._clock.monotonic_ns() - began_ns)
        staged = {each.name for each in loaded}
        return LoadReport(tuple(loaded), tuple(name for name in names if name not in staged))

    async def _newest(self, name: str) -> int:
        path = self._models[name].recipe.source.snapshot
        return await asyncio.to_thread(snapshot_version, path)

    async def _load_one(self, name: str, version: int) -> Loaded:
        host = self._on_loop if name in self._inline else self._engine
        return await host.load(name, version)

    def _keep_mean(self, loaded: Loaded) -> None:
        means, dim = self._means.get(loaded.name), self._models[loaded.name].dim
        if means is None:
            return
        if loaded.default is None or loaded.default.shape != (dim,):
            reason = f"version {loaded.version} has no mean embedding of {dim} values"
            raise InferenceError(loaded.name, f'{reason}, which default = "mean" needs')
        means.staged = loaded.default

    async def _restore(self, name: str, staged: int | None) -> None:
        """What was staged before a load that failed is staged again; if it cannot be loaded any
        more, nothing is."""
        if staged is not None:
            try:
                self._keep_mean(await self._load_one(name, staged))
                return
            except Exception as error:
                _LOG.warning("version %d of %s is staged no more: %s", staged, name, error)
        try:
            if name in self._inline:
                self._on_loop.discard([name])
            else:
                await self._engine.discard([name])
        except PredawnError as error:
            _LOG.warning("a version of %s that was refused is staged: %s", name, error)

    async def _change(self, change: _Change, names: Sequence[str]) -> dict[str, int]:
        in_engine = [name for name in names if name not in self._inline]
        on_loop = [name for name in names if name in self._inline]
        try:
            if in_engine and change == "swap":
                await self._engine.swap(in_engine)
            elif in_engine:
                await self._engine.rollback(in_engine)
        except PredawnError as error:  # its process was lost meanwhile, and comes back as it was
            raise Conflict("", f"nothing has changed: {error}") from error
        finally:
            self._changing = None
        # From here on nothing is awaited: no request sees one half of it.
        if change == "swap":
            self._on_loop.swap(on_loop)
            self._last_swap = tuple(names)
        else:
            self._on_loop.rollback(on_loop)
        live = {name: each.live for name, each in self.versions().items() if name in names}
        for name in names:
            self._change_mean(change, name)
            if name in self._alike:
                self._serve_pairs(name, live[name])
            recipe = self._models[name].recipe
            if recipe.kind == "user" and not recipe.align:
                self._pairs.replace_user_version(name, live[name])
            self._metrics.model_changed(name, change)
        _LOG.info("%s: %s", change, ", ".join(f"{name} {live[name]}" for name in live))
        return live

    def _alike_on_disk(self, name: str, version: int) -> frozenset[int]:
        return pairs_alike(self._models[name].recipe.source, version)

    def _serve_pairs(self, name: str, version: int) -> None:
        """What was not on disk yet when `version` was loaded may be alike as well."""
        found = [alike for alike in self._alike[name].values() if version in alike]
        self._pairs.replace_version(name, version, frozenset[int]().union(*found))

    def _change_mean(self, change: _Change, name: str) -> None:
        means = self._means.get(name)
        if means is None:
            return
        cache = self._defaults[name]
        before = cache.default(name)
        now = means.staged if change == "swap" else means.previous
        assert now is not None, "kept when it was loaded"
        cache.replace_default(name, now)
        self._means[name] = _Means(previous=before) if change == "swap" else _Means(staged=before)


def _reason(error: Exception) -> str:
    known = isinstance(error, PredawnError)
    return str(error) if known else f"{type(error).__name__}: {error}"
