"""Rankers on the loop: what is tried before it serves, what changes in place, what must not."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from engine_cases import NOBODY, ranking
from version_cases import NumberedRanker, publish

from predawn.server.clock import SystemClock
from predawn.server.engine import ModelVersions
from predawn.server.engine_recent import Recent
from predawn.server.errors import ConfigError, InferenceError
from predawn.server.inline_rankers import InlineRankers
from predawn.server.models.loading import ModelSource, Recipe, load_ranker
from predawn.server.pipeline_rank import ServedRanker

Rankers = dict[str, ServedRanker]


def with_ranker(
    folder: Path,
    use: Callable[[InlineRankers, Rankers], Awaitable[None]],
    factory: str = "version_cases:ranker",
) -> None:
    """Version 1 of "ctr" serves and has scored a batch; "far" is not inline."""
    source = ModelSource("rankers.ctr", str(folder), factory, {"inline": True})

    async def main() -> None:
        far = NumberedRanker(0, ("click",), inline=False)
        rankers = {
            "ctr": ServedRanker("ctr", load_ranker(source), ("m",), 0),
            "far": ServedRanker("far", far, ("m",), 0),
        }
        rankers["ctr"].recent.append(ranking())
        recipes = {"ctr": Recipe("ranker", source)}
        made = InlineRankers(rankers, recipes, {"ctr": 1}, Recent(NOBODY, 8), SystemClock())
        try:
            await asyncio.wait_for(use(made, rankers), 10)
        finally:
            made.close()

    asyncio.run(main())


def value(rankers: Rankers) -> float:
    return float(rankers["ctr"].model.score(ranking())[0, 0])


def test_a_version_is_tried_then_swapped_in_place_and_back(tmp_path: Path) -> None:
    publish(tmp_path)

    async def use(made: InlineRankers, rankers: Rankers) -> None:
        before = rankers["ctr"]
        loaded = await made.load("ctr", publish(tmp_path))
        assert (loaded.version, loaded.warmed_rows, loaded.default) == (2, 3, None)
        assert rankers["ctr"] is before
        made.swap(["ctr"])
        assert value(rankers) == 2 and rankers["ctr"].recent is before.recent
        assert made.versions() == {"ctr": ModelVersions(2, previous=1)}
        made.rollback(["ctr"])
        assert value(rankers) == 1
        assert made.versions() == {"ctr": ModelVersions(1, staged=2)}
        made.discard(["ctr"])
        assert made.versions() == {"ctr": ModelVersions(1)}

    with_ranker(tmp_path, use)


@pytest.mark.parametrize("change", ["swap", "rollback"])
def test_a_change_of_what_is_not_there_changes_nothing(tmp_path: Path, change: str) -> None:
    publish(tmp_path)

    async def use(made: InlineRankers, rankers: Rankers) -> None:
        before = dict(rankers)
        with pytest.raises(ConfigError, match="ctr"):
            getattr(made, change)(["ctr"])
        assert rankers == before and made.versions() == {"ctr": ModelVersions(1)}

    with_ranker(tmp_path, use)


def test_a_version_that_fails_on_what_was_scored_last_is_not_staged(tmp_path: Path) -> None:
    publish(tmp_path)

    async def use(made: InlineRankers, rankers: Rankers) -> None:
        with pytest.raises(InferenceError, match="version 2 failed on recent batches"):
            await made.load("ctr", publish(tmp_path, value="inf"))
        assert made.versions() == {"ctr": ModelVersions(1)}

    with_ranker(tmp_path, use)


def test_a_factory_that_ends_the_program_fails_the_load_alone(tmp_path: Path) -> None:
    publish(tmp_path)

    async def use(made: InlineRankers, rankers: Rankers) -> None:
        publish(tmp_path, exits=True)
        with pytest.raises((InferenceError, ConfigError, RuntimeError), match=r"SystemExit\(3\)"):
            await made.load("ctr", 2)
        assert (await made.load("ctr", publish(tmp_path))).version == 3

    with_ranker(tmp_path, use)
