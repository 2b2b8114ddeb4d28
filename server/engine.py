"""The engine's contract: where models run, away from the event loop, one batch at a time.

Invariant, of every implementation: a model can fail or hang only its own batch. Whatever it raises
or returns wrong becomes an `InferenceError` of that batch with the model's name, and a row that is
not finite is marked and not served. Lanes are strict: ranking goes before user batches, those
before pairs, and a pair model that can be sliced gives way between two slices. One batch sees one
version of its model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from predawn.server.errors import InferenceError
from predawn.server.request import F32, RankBatch, UserId, UserItems


@dataclass(frozen=True, slots=True)
class Computed:
    """rows: float32 [n, dim]; ok: bool [n], False where a row is not finite (`error` says so);
    snapshot: version of the model; engine_ns: time on the device's thread."""

    rows: F32
    ok: NDArray[np.bool_]
    snapshot: int
    engine_ns: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class AlignmentFit:
    """How well a new version was turned into the space of the live one. users: whose embeddings
    under both it was fitted on; cosine_before, cosine_after: mean cosine between old and new."""

    users: int
    cosine_before: float
    cosine_after: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that is staged. warmed_rows: rows of recent real batches that it was tried on;
    default: float32 [dim], the trained mean as this version puts it (user and pair models from a
    snapshot); alignment: None where it was not asked for, or too few users were seen lately."""

    name: str
    version: int
    took_ms: int
    warmed_rows: int
    default: F32 | None = None
    alignment: AlignmentFit | None = None


@dataclass(frozen=True, slots=True)
class ModelVersions:
    """Versions of one model that the engine holds: serving, ready to, and served before."""

    live: int
    staged: int | None = None
    previous: int | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """What an engine says of a model that it has loaded. dim: values per user or pair, 0 for a
    ranker; tasks, item_features, inline: of a ranker. An inline ranker is only described: it runs
    on the event loop."""

    version: int
    dim: int = 0
    tasks: tuple[str, ...] = ()
    item_features: tuple[str, ...] = ()
    inline: bool = False


class EmbedsUsers(Protocol):
    """What the batcher needs; a simulation brings its own."""

    async def embed(self, model: str, users: Sequence[UserId]) -> Computed:
        """One batch of one user model; InferenceError when all of it failed."""
        ...


class EmbedsPairs(Protocol):
    """What computes pairs behind the requests needs."""

    async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
        """One batch of one pair model: rows [sum of items, dim], user by user in the order given.
        Everything that a request waits for goes first. InferenceError when all of it failed."""
        ...


class VersionedEngine(Protocol):
    """What changes versions of models under traffic needs."""

    async def load(self, name: str, version: int | None) -> Loaded:
        """Loads a version (None: the newest) beside the live one, tries it on recent real batches
        and stages it; what was staged before goes. One load at a time, in order. ConfigError,
        SnapshotError; InferenceError when it does not do what the live one does."""
        ...

    async def discard(self, names: Sequence[str]) -> None:
        """Forgets the staged versions of `names`, where there are any."""
        ...

    async def swap(self, names: Sequence[str]) -> dict[str, int]:
        """Makes the staged versions of `names` live between two batches, all or none; what was
        live is `previous`. Returns the live version of each. ConfigError names what has nothing
        staged."""
        ...

    async def rollback(self, names: Sequence[str]) -> dict[str, int]:
        """Makes the previous versions of `names` live again, all or none; what was live is staged.
        Returns the live version of each. ConfigError names what has no previous version."""
        ...

    def versions(self) -> dict[str, ModelVersions]:
        """By name, of everything that the engine runs."""
        ...


class Engine(EmbedsUsers, EmbedsPairs, VersionedEngine, Protocol):
    """Everything that runs models away from the event loop."""

    async def score(self, ranker: str, batch: RankBatch) -> F32:
        """float32 [R, tasks] of a ranker that is not inline, before any batch that is queued.
        InferenceError names it; finiteness is the caller's to check."""
        ...


def checked_rows(name: str, rows: object, shape: tuple[int, int]) -> F32:
    """`rows` when it is float32 of that shape, else InferenceError saying what came instead."""
    if not isinstance(rows, np.ndarray):
        raise InferenceError(name, f"returned {type(rows).__name__}, not a float32 numpy array")
    if rows.dtype != np.float32 or rows.shape != shape:
        came = f"{rows.dtype} {list(rows.shape)}"
        raise InferenceError(name, f"returned {came}, expected float32 {list(shape)}")
    return rows
