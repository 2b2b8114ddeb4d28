"""A server that comes back to a store on disk serves on in the language of what it finds there."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from engine_cases import Turned, histories, publish
from wiring_cases import config, rank, refreshed

from predawn.server.cache import UserCache
from predawn.server.config import Config
from predawn.server.history_record import Events
from predawn.server.http.services import Services
from predawn.server.request import F32, Source
from predawn.server.versions import Versions
from predawn.server.wiring import running
from predawn.server.wiring_models import load_models

USERS = list(range(1, 9))


def aligned(folder: Path, isolation: str) -> Config:
    """A model that `engine_cases.turned` makes, at the newest version below `folder`."""
    return config(
        models={
            "sum": {
                "factory": "engine_cases:turned",
                "snapshot": str(folder / "snapshots"),
                "align": True,
                "default": "mean",
            }
        },
        rankers={"ctr": {"factory": "engine_cases:halves", "user_models": ["sum"]}},
        store={"path": str(folder / "store"), "dtype": "fp32"},
        engine={"isolation": isolation},
    )


def shown_to(users: list[int]) -> Events:
    """One item each: users without a past say nothing about an alignment."""
    ones = np.ones(len(users), dtype=np.int64)
    return Events(users, ones.astype(np.uint64), ones.astype(np.uint16), -ones)


async def embedded(services: Services, user: int) -> F32:
    """What the store has of a user after a request."""
    reply = await rank(services, user=user)
    if reply.users["sum"].source is not Source.DIRECT:
        await refreshed(services)
    return store(services).read("sum", [user], 60_000).rows[0]


def store(services: Services) -> UserCache:
    assert isinstance(services.cache, UserCache)
    return services.cache


def versions(services: Services) -> Versions:
    assert isinstance(services.versions, Versions)
    return services.versions


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_an_aligned_version_is_aligned_after_a_restart(tmp_path: Path, isolation: str) -> None:
    """And so is its mean."""
    wired = aligned(tmp_path, isolation)

    def published(turn: float) -> None:
        mean = [float(np.cos(turn)), float(np.sin(turn))]
        publish(tmp_path / "snapshots", turn=turn, user_tower={"default": mean})

    async def first() -> None:
        async with running(wired) as services:
            await services.history.append(shown_to(USERS))
            for user in USERS:
                await embedded(services, user)
            published(2.0)
            (loaded,) = (await versions(services).load()).loaded
            assert loaded.alignment is not None
            await versions(services).swap()

    async def second() -> None:
        async with running(wired) as services:
            assert versions(services).versions()["sum"].live == 2
            expected = Turned(0.5).embed(histories([*USERS, 50, 51]))
            for user, row in zip([*USERS, 50, 51], expected, strict=True):
                np.testing.assert_allclose(await embedded(services, user), row, atol=1e-5)
            mean = [np.cos(0.5), np.sin(0.5)]
            np.testing.assert_allclose(store(services).default("sum"), mean, atol=1e-5)

    published(0.5)
    asyncio.run(first())
    asyncio.run(second())


def test_a_check_leaves_no_record(tmp_path: Path) -> None:
    publish(tmp_path / "snapshots", turn=0.0, user_tower={"default": [1.0, 0.0]})
    load_models(aligned(tmp_path, "thread"))
    assert not (tmp_path / "store").exists()
