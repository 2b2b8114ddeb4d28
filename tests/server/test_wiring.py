"""The server as wired: what a configuration gives."""

import asyncio
import gc
import re
from pathlib import Path

import numpy as np
import pytest
from wiring_cases import config, rank, refreshed

from predawn.server.history import Events
from predawn.server.request import Source
from predawn.server.wiring import running


def test_soap_serves_the_default_then_what_was_computed_behind_the_request() -> None:
    async def main() -> None:
        async with running(config()) as services:
            first = await rank(services)
            await refreshed(services)
            second = await rank(services)
            assert first.users["sum"].source is Source.DEFAULT
            assert second.users["sum"].source is Source.DIRECT
            assert second.users["sum"].row[1] == 1
            assert list(second.order) == [0, 2, 1]

    asyncio.run(main())


def test_two_rankers_share_one_inference_of_their_user_model() -> None:
    async def main() -> None:
        async with running(config()) as services:
            await asyncio.gather(*(rank(services, name) for name in ("ctr", "like")))
            await refreshed(services)
            click, like = await rank(services, "ctr"), await rank(services, "like")
            assert click.users["sum"].source is like.users["sum"].source is Source.DIRECT
            assert np.allclose(click.scores, 2 * like.scores)
            assert services.metrics.models["sum"].computed() == 1

    asyncio.run(main())


def test_integer_and_string_ids_are_different_users() -> None:
    async def main() -> None:
        async with running(config()) as services:
            await rank(services, user=7)
            await refreshed(services)
            assert (await rank(services, user="7")).users["sum"].source is Source.DEFAULT
            assert (await rank(services, user=7)).users["sum"].source is Source.DIRECT

    asyncio.run(main())


def test_events_reach_the_user_model() -> None:
    events = Events(
        users=[7, 7],
        items=np.array([1, 2], dtype=np.uint64),
        types=np.array([1, 2], dtype=np.uint16),
        t_ms=np.array([-1, -1], dtype=np.int64),
    )

    async def main() -> None:
        async with running(config({"mode": "realtime", "wait": "1s"})) as services:
            assert await services.history.append(events) == 2
            reply = await rank(services)
            assert reply.users["sum"].source is Source.COMPUTED
            assert reply.users["sum"].row[0] == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("averaging", "served"),
    [
        ({}, 2.0),
        ({"average_over": 3}, 1.0),
        ({"average": "exponential", "average_weight": 0.25}, 0.5),
    ],
)
def test_embeddings_are_averaged_as_configured(averaging: dict[str, object], served: float) -> None:
    """A user without events, then with two."""
    events = Events(
        users=[7, 7],
        items=np.array([1, 2], dtype=np.uint64),
        types=np.array([1, 2], dtype=np.uint16),
        t_ms=np.array([-1, -1], dtype=np.int64),
    )

    async def main() -> None:
        settings = {"mode": "realtime", "wait": "1s", **averaging}
        async with running(config(settings)) as services:
            assert (await rank(services)).users["sum"].row[0] == 0
            await services.history.append(events)
            assert (await rank(services)).users["sum"].row[0] == served

    asyncio.run(main())


@pytest.mark.parametrize(
    ("retries", "source", "inferences"), [(0, Source.DEFAULT, 1), (1, Source.COMPUTED, 2)]
)
def test_a_failed_inference_is_asked_for_again_as_configured(
    retries: int, source: Source, inferences: int
) -> None:
    model = {"factory": "factories:fails_once", "mode": "ercache", "wait": "1s"}

    async def main() -> None:
        async with running(config({**model, "retries": retries})) as services:
            assert (await rank(services)).users["sum"].source is source
            counts = services.metrics.models["sum"]
            assert (counts.retries, counts.computed()) == (retries, inferences)

    asyncio.run(main())


def test_a_ranker_may_run_on_the_engines_thread() -> None:
    ranker = {"factory": "factories:off_loop_ranker", "user_models": ["sum"]}

    async def main() -> None:
        async with running(config(rankers={"ctr": ranker})) as services:
            assert list((await rank(services)).order) == [0, 2, 1]

    asyncio.run(main())


def test_a_background_task_that_dies_ends_the_server_with_its_error() -> None:
    async def main() -> None:
        async with running(config()) as services:
            services.metrics.models.pop("sum")  # the refresh of this request cannot be counted
            services.hints[0].hint(7)
            await asyncio.sleep(5)
            raise AssertionError("the server outlived its batcher")

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(main())
    assert raised.group_contains(KeyError)


def test_a_restart_with_a_store_directory_serves_at_once_what_was_computed(tmp_path: Path) -> None:
    kept = config(store={"path": str(tmp_path)})

    async def first() -> None:
        async with running(kept) as services:
            await rank(services)
            await refreshed(services)

    async def second() -> None:
        async with running(kept) as services:
            reply = await rank(services)
            assert reply.users["sum"].source is Source.DIRECT
            assert services.metrics.snapshot()["store"]["sum"]["entries"] == 1

    asyncio.run(first())
    asyncio.run(second())


@pytest.mark.parametrize("huge_pages", [False, True])
def test_huge_pages_decide_whether_the_memory_of_a_table_is_taken_at_once(
    huge_pages: bool,
) -> None:
    async def main() -> None:
        store = {"capacity": 100_000, "huge_pages": huge_pages}
        async with running(config(store=store)) as services:
            resident = resident_bytes()
            await rank(services)
            await refreshed(services)
            await services.cache.flushed()
            table = services.metrics.snapshot()["store"]["sum"]
            assert table["entries"] == 1
            assert (resident_bytes() - resident >= table["bytes"] / 2) is huge_pages

    asyncio.run(main())


def resident_bytes() -> int:
    """Of the stores in memory that this process has mapped."""
    gc.collect()  # those of earlier tests go
    maps = Path("/proc/self/smaps").read_text()
    of_stores = re.findall(r"memfd:predawn-store.*\n(?:.*\n)*?Rss: +(\d+) kB", maps)
    return sum(int(kib) for kib in of_stores) * 1024
