"""A server's models with versions on disk, their real engine and store, and a naive twin of them.

"alone" and "pair" are user models, "inline" and "off_loop" rankers, "behind" is a model of pairs,
"fixed" has no snapshot. "alone" and "behind" serve their mean where they know nothing. What version
n of a model makes can be told apart from what any other makes: n for every value.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from engine_cases import NOBODY, histories, items, ranking

from predawn.server.cache import TableSpec, UserCache
from predawn.server.clock import Clock, SystemClock
from predawn.server.engine_recent import Recent
from predawn.server.engine_thread import ThreadEngine
from predawn.server.inline_rankers import InlineRankers
from predawn.server.metrics import Metrics
from predawn.server.models.loading import Kind, ModelSource, Recipe, load_ranker
from predawn.server.models.snapshots import MANIFEST, read_manifest, write_snapshot
from predawn.server.pair_cache import PairCache
from predawn.server.pipeline_rank import ServedRanker
from predawn.server.request import F32, PairBatch, RankBatch, UserBatch
from predawn.server.versions import ServedModel, Versions

DIM = 2
USERS = ("alone", "pair")
RANKERS = ("inline", "off_loop")
BEHIND = "behind"
VERSIONED = (*USERS, *RANKERS, BEHIND)
FIXED = "fixed"


class Numbered:
    """A user model: `value` everywhere."""

    def __init__(self, value: float, dim: int) -> None:
        self.value = value
        self.dim = dim

    def embed(self, batch: UserBatch) -> F32:
        if np.isinf(self.value):
            raise ZeroDivisionError("by zero")
        return np.full((len(batch.users), self.dim), self.value, dtype=np.float32)


class NumberedPairs(Numbered):
    """A pair model: `value` everywhere."""

    def embed_pairs(self, batch: PairBatch) -> F32:
        return np.full((len(batch.item_hashes), self.dim), self.value, dtype=np.float32)


class NumberedRanker:
    """A ranker: `value` everywhere."""

    item_features: tuple[str, ...] = ()

    def __init__(self, value: float, tasks: Sequence[str], inline: bool) -> None:
        self.value = value
        self.tasks = tuple(tasks)
        self.inline = inline

    def score(self, batch: RankBatch) -> F32:
        if batch.user.shape[1] != DIM:
            raise ValueError(f"got {batch.user.shape[1]} user values")
        return np.full((len(batch.item_hashes), len(self.tasks)), self.value, dtype=np.float32)


def _value(meta: Mapping[str, Any]) -> float:
    return float(meta["value"])  # JSON has no NaN: a string


def user_model(snapshot: Path | None) -> Numbered:
    if snapshot is None:
        return Numbered(0, DIM)
    meta = read_manifest(snapshot).meta
    return Numbered(_value(meta), meta.get("dim", DIM))


def pair_model(snapshot: Path) -> NumberedPairs:
    meta = read_manifest(snapshot).meta
    return NumberedPairs(_value(meta), meta.get("dim", DIM))


def ranker(snapshot: Path, inline: bool) -> NumberedRanker:
    meta = read_manifest(snapshot).meta
    if meta.get("exits"):
        raise SystemExit(3)
    return NumberedRanker(_value(meta), meta.get("tasks", ["click"]), inline)


def publish(out: Path, value: object = None, **meta: object) -> int:
    """The next version, good unless told otherwise: its value and mean are its own number."""
    newest = max((int(each.name) for each in out.glob("0*")), default=0) + 1
    shown = str(newest if value is None else value)
    mean = {"default": [float(newest)] * DIM}
    trained = {"user_tower": mean, "foundation": mean}
    files = {"weights.safetensors": {"a": np.zeros(2, np.float32)}}
    return int(write_snapshot(out, files, {"value": shown, **trained, **meta}).name)


def damage(out: Path, version: int) -> None:
    """As a copy that was cut off would be."""
    (out / f"{version:06d}" / "weights.safetensors").write_bytes(b"cut")


def unpublish(out: Path, version: int) -> None:
    """As if somebody had removed half of it."""
    (out / f"{version:06d}" / MANIFEST).unlink()


@dataclass
class Server:
    """The parts that change together."""

    versions: Versions
    engine: ThreadEngine
    rankers: dict[str, ServedRanker]
    cache: UserCache
    pairs: PairCache
    metrics: Metrics

    async def served(self) -> dict[str, float]:
        """The version that every model answers with, by what it makes."""
        found = {name: float((await self.engine.embed(name, [1])).rows[0, 0]) for name in USERS}
        found[BEHIND] = float((await self.engine.pairs(BEHIND, [items(1, 1)])).rows[0, 0])
        found["off_loop"] = float((await self.engine.score("off_loop", ranking()))[0, 0])
        found["inline"] = float(self.rankers["inline"].model.score(ranking())[0, 0])
        return found


def _recipes(folder: Path) -> Iterator[tuple[str, Recipe]]:
    for name in USERS:
        yield name, _recipe("user", f"models.{name}", folder / name, "user_model")
    for name in RANKERS:
        options: dict[str, object] = {"inline": name == "inline"}
        yield name, _recipe("ranker", f"rankers.{name}", folder / name, "ranker", options)
    yield BEHIND, _recipe("pair", f"pairs.{BEHIND}", folder / BEHIND, "pair_model")
    yield FIXED, _recipe("user", f"models.{FIXED}", "", "user_model")


def _recipe(
    kind: Kind,
    setting: str,
    path: Path | str,
    factory: str,
    options: dict[str, object] | None = None,
) -> Recipe:
    source = ModelSource(setting, str(path), f"version_cases:{factory}", options or {})
    return Recipe(kind, source)


def _caches(clock: Clock, live: Mapping[str, int]) -> tuple[UserCache, PairCache]:
    default = np.full(DIM, float(live["alone"]), np.float32)
    specs = [TableSpec(name, DIM, 1, "fp32", 64, default) for name in (*USERS, FIXED)]
    mean = np.full(DIM, float(live[BEHIND]), np.float32)
    behind = TableSpec(BEHIND, DIM, 1, "fp32", 64, mean, holds="pairs")
    users = UserCache(specs, clock, 5, 64, bytes(32))
    return users, PairCache([behind], clock, bytes(32))


@asynccontextmanager
async def server(folder: Path) -> AsyncGenerator[Server]:
    """All models at the newest version that is below `folder`, by name."""
    clock, recipes = SystemClock(), dict(_recipes(folder))
    metrics = Metrics([*USERS, FIXED], RANKERS, [BEHIND])
    engine = ThreadEngine(recipes, NOBODY, histories, clock, metrics)
    engine.start()
    described = await engine.ready()
    rankers = {
        name: ServedRanker(name, load_ranker(recipes[name].source), ("alone",)) for name in RANKERS
    }
    rankers["inline"].recent.append(ranking())  # both are tried at the start
    await engine.score("off_loop", ranking())
    live = {name: described[name].version for name in recipes}
    cache, pairs = _caches(clock, live)
    on_loop = InlineRankers(rankers, recipes, live, Recent(NOBODY, 64), clock)
    models = {
        name: ServedModel(each, DIM * (each.kind != "ranker"), name in ("alone", BEHIND))
        for name, each in recipes.items()
    }
    versions = Versions(models, engine, on_loop, cache, pairs, clock, metrics)
    try:
        yield Server(versions, engine, rankers, cache, pairs, metrics)
    finally:
        versions.close()
        engine.close()
        cache.close()
        pairs.close()


def with_server(folder: Path, use: Any) -> None:
    """Runs the coroutine function `use` with a server of one version of everything."""

    async def main() -> None:
        for name in VERSIONED:
            publish(folder / name)
        async with server(folder) as made:
            await asyncio.wait_for(use(made), 20)

    asyncio.run(main())


@dataclass
class Twin:
    """Live, staged and previous version of every model, by the book."""

    live: dict[str, int]
    staged: dict[str, int] = field(default_factory=dict)
    previous: dict[str, int] = field(default_factory=dict)
    last_swap: set[str] = field(default_factory=set)

    def load(self, names: Sequence[str], version: int) -> set[str]:
        """What is staged by it."""
        new = {n for n in names if version not in (self.live[n], self.staged.get(n))}
        self.staged |= dict.fromkeys(new, version)
        return new

    def swap(self, names: Sequence[str] | None) -> set[str]:
        """What is swapped: nothing where it cannot be done."""
        chosen = set(self.staged if names is None else names)
        if not chosen <= self.staged.keys():
            return set()
        for name in chosen:
            self.previous[name], self.live[name] = self.live[name], self.staged.pop(name)
        self.last_swap = chosen or self.last_swap
        return chosen

    def rollback(self, names: Sequence[str] | None) -> set[str]:
        """What is rolled back: nothing where it cannot be done."""
        chosen = set(self.last_swap & self.previous.keys() if names is None else names)
        if not chosen <= self.previous.keys():
            return set()
        for name in chosen:
            self.staged[name], self.live[name] = self.live[name], self.previous.pop(name)
        return chosen
