"""Versions of models, made and tried in a thread of their own, beside the one that computes.

Invariant: what becomes live at the start has embedded a user without a past; what is staged has
done what the live version does, on the batches that it saw last: same dim, tasks and features, rows
of the right shape, all finite. Anything else is an error that changes nothing.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, cast, runtime_checkable

import numpy as np

from predawn.server.clock import Clock
from predawn.server.engine import AlignmentFit, Described, Loaded, checked_rows
from predawn.server.engine_recent import Recent, take_users
from predawn.server.engine_roster import Held, Roster
from predawn.server.engine_worker import give_way, named
from predawn.server.errors import ConfigError, InferenceError, SnapshotError
from predawn.server.models.alignment import Aligned, enough_users, fit_alignment
from predawn.server.models.alignment_record import (
    first_version,
    is_recorded,
    keep_alignment,
    kept_alignment,
)
from predawn.server.models.compile_count import compile_counter
from predawn.server.models.contract import PairModel, RankerModel, UserModel
from predawn.server.models.loading import Recipe, load_model, trained_default
from predawn.server.models.snapshots import snapshot_version
from predawn.server.request import F32, UserBatch

_LOG = logging.getLogger(__name__)
_NICEST = 19
_SECTIONS = {"user": "user_tower", "pair": "foundation"}

Model = UserModel | PairModel | RankerModel


@runtime_checkable
class _Prepares(Protocol):
    """A user model that wants to see the largest batch before it is asked for one."""

    def prepare(self, example: UserBatch) -> None: ...


class Aside:
    """A daemon thread that runs one thing after another and gives way to all others."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="predawn-load", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], None]) -> None:
        """Queues `work`, which must not raise."""
        self._waiting.put(work)

    def close(self) -> None:
        """Lets the thread end after what it is at; what is queued is forgotten."""
        while not self._waiting.empty():
            self._waiting.get()
        self._waiting.put(None)

    def _work(self) -> None:
        give_way(_NICEST)
        while (work := self._waiting.get()) is not None:
            work()


class Loader:
    """recipes: by name, of everything that the engine may run."""

    def __init__(
        self, recipes: Mapping[str, Recipe], roster: Roster, recent: Recent, clock: Clock
    ) -> None:
        self._recipes = recipes
        self._roster = roster
        self._recent = recent
        self._clock = clock
        self._compiled: Callable[[], int] = int
        self._excused = 0  # compilations that belong to a load

    def start_all(self) -> dict[str, Described]:
        """Makes the newest versions live. ConfigError, SnapshotError."""
        described = {name: self.start(name) for name in self._recipes}
        self.all_started()
        return described

    def all_started(self) -> None:
        """Everything is warm: what is compiled from here on, but for a load, is counted, and what
        serves is on record where its rows outlive the process. ConfigError, SnapshotError."""
        for name, recipe in self._recipes.items():
            if recipe.alignments and name in self._roster.names():
                live = self._roster.live(name)
                if not is_recorded(name, recipe, live.version):
                    keep_alignment(name, recipe, live.version, 0, live.matrix)
        self._compiled = compile_counter()

    def compiles(self) -> int:
        """Kernels compiled after the warm-up."""
        return self._compiled() - self._excused

    def start(self, name: str, version: int | None = None, matrix: F32 | None = None) -> Described:
        """Makes a version live (None: see `first_version`) and tries it; matrix: as it was aligned
        before, None: as is on record. An inline ranker is only described. ConfigError,
        SnapshotError."""
        recipe = self._recipes[name]
        version = first_version(name, recipe) if version is None else version
        held = self._made_again(name, recipe, version, matrix)
        if recipe.kind == "ranker":
            ranker = cast(RankerModel, held.model)
            if not ranker.inline:
                self._roster.hold(name, held)
            return Described(held.version, 0, ranker.tasks, ranker.item_features, ranker.inline)
        try:
            self._tried(name, recipe, held.model)
        except (Exception, SystemExit) as error:
            reason = f"a trial on a user without history failed: {_told(error)}"
            raise ConfigError(recipe.source.setting, reason) from error
        self._roster.hold(name, held)
        return Described(held.version, cast(UserModel, held.model).dim)

    def load(self, name: str, version: int | None) -> tuple[Loaded, F32 | None]:
        """See `Engine.load`; also the matrix that aligns the version."""
        compiled = self._compiled()
        try:
            return self._load(name, version)
        finally:
            self._excused += self._compiled() - compiled

    def _load(self, name: str, version: int | None) -> tuple[Loaded, F32 | None]:
        began_ns = self._clock.monotonic_ns()
        recipe = self._recipes.get(name)
        if recipe is None or name not in self._roster.names():
            raise ConfigError(name, f"the engine runs {', '.join(self._roster.names())}")
        if not recipe.source.snapshot:
            reason = "has no snapshot, so there are no versions of it"
            raise ConfigError(recipe.source.setting, reason)
        live = self._roster.live(name)
        held = self._made(name, recipe, version)
        _same_contract(name, live.model, held.model)
        held, fit = self._aligned(name, recipe, live, held)
        try:
            rows = self._tried(name, recipe, held.model)
        except (Exception, SystemExit) as error:
            reason = f"version {held.version} failed on recent batches: {_told(error)}"
            raise InferenceError(name, reason) from error
        default = _default(recipe, held)
        keep_alignment(name, recipe, held.version, 0 if fit is None else live.version, held.matrix)
        self._roster.stage(name, held)
        self._roster.forget()
        took_ms = (self._clock.monotonic_ns() - began_ns) // 1_000_000
        return Loaded(name, held.version, took_ms, rows, default, fit), held.matrix

    def restore(
        self, name: str, version: int, matrix: F32 | None, place: Callable[[str, Held], None]
    ) -> None:
        """A staged or previous version of an engine that was lost; place: `Roster.stage` or
        `Roster.keep`."""
        recipe = self._recipes[name]
        held = self._made_again(name, recipe, version, matrix)
        self._tried(name, recipe, held.model)
        place(name, held)

    def _made_again(self, name: str, recipe: Recipe, version: int, matrix: F32 | None) -> Held:
        """Turned as it was before the process, or this one, was lost."""
        held = self._made(name, recipe, version)
        if matrix is None:
            matrix = kept_alignment(name, recipe, version)
        if matrix is None:
            return held
        try:
            return Held(Aligned(cast(UserModel, held.model), matrix), held.version, matrix)
        except ValueError as error:
            raise ConfigError(recipe.source.setting, f"cannot be aligned again: {error}") from error

    def _made(self, name: str, recipe: Recipe, version: int | None) -> Held:
        source = recipe.source
        if version is None and source.snapshot:
            version = snapshot_version(source.snapshot)
        model = load_model(recipe, version if source.snapshot else None)
        if isinstance(model, _Prepares):
            self._prepare(name, source.setting, model)
        return Held(model, version or 0)

    def _prepare(self, name: str, setting: str, model: _Prepares) -> None:
        try:
            model.prepare(self._recent.users(name)[-1])
        except (Exception, SystemExit) as error:
            reason = f"cannot be prepared for its batches: {_told(error)}"
            raise ConfigError(setting, reason) from error

    def _aligned(
        self, name: str, recipe: Recipe, live: Held, held: Held
    ) -> tuple[Held, AlignmentFit | None]:
        """Turned towards what is live, which may be aligned itself: so a chain holds."""
        users, old = self._recent.embedded(name, live.version)
        model = cast(UserModel, held.model)
        if not recipe.align:
            return held, None
        if not enough_users(len(old), model.dim):
            told = "model %s: version %d is not aligned: too few users (%d) were embedded lately"
            _LOG.warning(told, name, held.version, len(old))
            return held, None
        try:
            new = _embedded(name, model, users)
            matrix = fit_alignment(old, new)
        except Exception as error:
            reason = f"version {held.version} cannot be aligned: {_told(error)}"
            raise InferenceError(name, reason) from error
        fit = AlignmentFit(len(old), _cosine(old, new), _cosine(old, new @ matrix))
        return Held(Aligned(model, matrix), held.version, matrix), fit

    def _tried(self, name: str, recipe: Recipe, model: Model) -> int:
        """Runs recent batches; how many rows they had. InferenceError, or whatever it raises."""
        rows = 0
        for run, shape in self._trials(name, recipe, model):
            out = checked_rows(name, run(), shape)
            if not np.isfinite(out).all():
                raise InferenceError(name, "returned values that are not finite")
            rows += shape[0]
        return rows

    def _trials(
        self, name: str, recipe: Recipe, model: Model
    ) -> list[tuple[Callable[[], object], tuple[int, int]]]:
        """What to run, and the shape that it must return."""
        if recipe.kind == "ranker":
            ranker = cast(RankerModel, model)
            return [
                (partial(ranker.score, batch), (len(batch.item_hashes), len(ranker.tasks)))
                for batch in self._recent.rankings(name)
            ]
        if recipe.kind == "pair":
            pair_model = cast(PairModel, model)
            return [
                (partial(pair_model.embed_pairs, batch), (len(batch.item_hashes), pair_model.dim))
                for batch in self._recent.pairs(name)
            ]
        user_model = cast(UserModel, model)
        return [
            (partial(user_model.embed, batch), (len(batch.users), user_model.dim))
            for batch in self._recent.users(name)
        ]


_CHUNK = 64


def _embedded(name: str, model: UserModel, users: UserBatch) -> F32:
    count = len(users.users)
    chunks = [np.arange(first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK)]
    return np.concatenate(
        [
            checked_rows(name, model.embed(take_users(users, chunk)), (len(chunk), model.dim))
            for chunk in chunks
        ]
    )


def _cosine(old: F32, new: F32) -> float:
    norms = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
    return float(np.mean((old * new).sum(axis=1) / np.maximum(norms, 1e-12)))


def _same_contract(name: str, live: Model, new: Model) -> None:
    for member in ("dim", "tasks", "item_features", "inline"):
        had, has = getattr(live, member, None), getattr(new, member, None)
        if had != has:
            reason = f"has {member} {has!r}, the live version {had!r}: that needs a restart"
            raise InferenceError(name, reason)


def _default(recipe: Recipe, held: Held) -> F32 | None:
    """The trained mean, aligned as the model is; what a factory reads need not have one."""
    section = _SECTIONS.get(recipe.kind)
    if section is None:
        return None
    try:
        default = trained_default(recipe.source.snapshot, section, held.version)
    except SnapshotError:
        if recipe.source.factory:
            return None
        raise
    return default if held.matrix is None else default @ held.matrix


def _told(error: BaseException) -> str:
    known = isinstance(error, ConfigError | SnapshotError | InferenceError)
    return str(error) if known else named("", error).reason
