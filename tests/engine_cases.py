"""Models and batches for the tests of engines, reachable as "engine_cases:name" by a recipe.

What a model does is said by the users of a batch (`BROKEN`) or by its snapshot's meta, so that it
works the same in a thread and in a process of its own.
"""

import contextlib
import ctypes
import gc
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from predawn.server.engine_recent import take_users
from predawn.server.models.loading import Kind, ModelSource, Recipe
from predawn.server.models.snapshots import read_manifest, write_snapshot
from predawn.server.request import F32, PairBatch, RankBatch, UserBatch, UserId, UserItems

DIM = 2
RAISES, EXITS, HANGS, DIES, NOT_FINITE, WIDE, DOUBLES, NOTHING, STUCK, GARBLES = range(9_001, 9_011)
"""Users that break the model in one way each, when they are first in a batch."""


def histories(users: Sequence[UserId]) -> UserBatch:
    """One event each."""
    n = len(users)
    return UserBatch(
        users=np.array([int(user) for user in users], dtype=np.uint64),
        items=np.ones((n, 1), dtype=np.uint64),
        types=np.ones((n, 1), dtype=np.uint16),
        ages_ms=np.zeros((n, 1), dtype=np.int64),
        lengths=np.ones(n, dtype=np.int32),
        counts=np.ones((n, 1), dtype=np.float32),
        attributes=np.zeros((n, 0), dtype=np.float32),
        hour=np.zeros(n, dtype=np.float32),
    )


NOBODY = take_users(histories([0]), np.array([0]))


def items(user: UserId, count: int) -> UserItems:
    """Items 1 .. count for the user."""
    return UserItems(user, np.arange(1, count + 1, dtype=np.uint64))


def ranking(rows: int = 3, first: int = 0) -> RankBatch:
    """One request; `first` is the id of its first item."""
    return RankBatch(
        user=np.zeros((1, DIM), dtype=np.float32),
        sources=np.zeros((1, 1), dtype=np.uint8),
        offsets=np.array([0, rows], dtype=np.int64),
        item_hashes=np.arange(first, first + rows, dtype=np.uint64),
        item_features=np.zeros((rows, 0), dtype=np.float32),
    )


def misbehave(first: int, rows: F32) -> Any:
    """`rows`, or what the user that comes first stands for."""
    if first == RAISES:
        raise ZeroDivisionError("by zero")
    if first == EXITS:
        raise SystemExit(3)
    if first == HANGS:
        time.sleep(60)
    if first == STUCK:
        ctypes.PyDLL(None).sleep(60)  # and nobody else gets the interpreter
    if first == GARBLES:
        garble()
    if first == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    if first == NOT_FINITE:
        rows[0, 0] = np.nan
    if first == WIDE:
        return np.repeat(rows, 2, axis=1)
    if first == DOUBLES:
        return rows.astype(np.float64)
    return None if first == NOTHING else rows


def garble() -> None:
    """Writes a message that is none to every socket of the process."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                os.write(int(name), struct.pack("!i", 4) + b"junk")


class Scaled:
    """A user model: [user * scale, pid of the process]."""

    dim = DIM

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def embed(self, batch: UserBatch) -> F32:
        rows = np.zeros((len(batch.users), DIM), dtype=np.float32)
        rows[:, 0] = batch.users.astype(np.float32) * np.float32(self.scale)
        rows[:, 1] = os.getpid()
        result: F32 = misbehave(int(batch.users[0]), rows)
        return result


class Sums:
    """A pair model, sliced by user: [user + item, 0]."""

    dim = DIM

    def pair_slices(self, batch: PairBatch) -> Generator[None, None, F32]:
        rows = np.zeros((len(batch.item_hashes), DIM), dtype=np.float32)
        for user in range(len(batch.users.users)):
            place = slice(batch.offsets[user], batch.offsets[user + 1])
            rows[place, 0] = batch.users.users[user] + batch.item_hashes[place]
            yield
        result: F32 = misbehave(int(batch.users.users[0]), rows)
        return result

    def embed_pairs(self, batch: PairBatch) -> F32:
        slices = self.pair_slices(batch)
        while True:
            try:
                next(slices)
            except StopIteration as ended:
                result: F32 = ended.value
                return result

    def kept(self) -> dict[str, int]:
        return {"users": 7, "tokens_encoded": 11}


class Halves:
    """A ranker that is not inline: .5 for everything, and `item_features` for whoever looks."""

    tasks: tuple[str, ...] = ("click",)
    item_features: tuple[str, ...] = ()
    inline = False

    def score(self, batch: RankBatch) -> F32:
        rows = np.full((len(batch.item_hashes), len(self.tasks)), 0.5, dtype=np.float32)
        result: F32 = misbehave(int(batch.item_hashes[0]), rows)
        return result


def scaled(snapshot: Path | None) -> Any:
    """As the snapshot's meta says: {"scale"}, or a fault that only a trial finds."""
    meta = {} if snapshot is None else read_manifest(snapshot).meta
    model = Scaled(meta.get("scale", 1.0))
    if "first" in meta:
        model.embed = Fault(meta["first"])  # type: ignore[method-assign]
    model.dim = meta.get("dim", DIM)
    return model


class Fault:
    """Breaks as the user `first` would break it."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __call__(self, batch: UserBatch) -> Any:
        return misbehave(self.first, np.zeros((len(batch.users), DIM), dtype=np.float32))


def sums(snapshot: Path | None) -> Sums:
    return Sums()


def halves(snapshot: Path | None) -> Halves:
    return Halves()


def inline_halves(snapshot: Path | None) -> Halves:
    model = Halves()
    model.inline = True
    return model


class Turned(Scaled):
    """A user model on the unit circle; a version turns it by its meta's `turn`."""

    def embed(self, batch: UserBatch) -> F32:
        angle = batch.users.astype(np.float64) + self.scale
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def turned(snapshot: Path) -> Turned:
    return Turned(read_manifest(snapshot).meta["turn"])


class Frozen(Scaled):
    """A user model: [objects that the garbage collector leaves out, 0]."""

    def embed(self, batch: UserBatch) -> F32:
        return np.array([[gc.get_freeze_count(), 0]] * len(batch.users), dtype=np.float32)


def frozen(snapshot: Path | None) -> Frozen:
    return Frozen()


def unable(snapshot: Path | None) -> None:
    raise OSError("no such weights")


def dies(snapshot: Path | None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Gate:
    """Holds a thread until it is opened."""

    def __init__(self) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self._opened.wait(30)

    def open(self) -> None:
        self._opened.set()


CALLS: dict[str, Callable[[Any], Any]] = {}
"""What a `called` model does after its trial on nobody; for engines in this process."""


class Called(Scaled):
    """A user model and ranker that calls a test's function."""

    tasks = ("click",)
    item_features: tuple[str, ...] = ()
    inline = False

    def __init__(self, name: str) -> None:
        super().__init__()
        self.score = CALLS[name]

    def embed(self, batch: UserBatch) -> F32:
        result: F32 = super().embed(batch) if batch.users[0] == 0 else self.score(batch)
        return result


def called(snapshot: Path | None, name: str) -> Called:
    return Called(name)


def recipe(kind: Kind, factory: str, snapshot: Path | str = "", **options: object) -> Recipe:
    """Of a model of this file."""
    setting = {"user": "models", "pair": "pairs", "ranker": "rankers"}[kind] + ".m"
    return Recipe(kind, ModelSource(setting, str(snapshot), f"engine_cases:{factory}", options))


def publish(out: Path, **meta: object) -> int:
    """Writes the next version; returns its number."""
    return int(write_snapshot(out, {}, meta).name)
