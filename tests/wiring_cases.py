"""Configurations and requests that the tests of a wired server share."""

import asyncio
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from model_cases import PRIOR, RANKER, TOWER, ranker, tower

from predawn.server.config import Config
from predawn.server.http.services import Services
from predawn.server.models.loading import RANKER_FILE, TOWER_FILE
from predawn.server.models.snapshots import write_snapshot
from predawn.server.models.user_tower import tower_tensors
from predawn.server.request import RankReply, RankRequest

TYPES = ["shown", "clicked", "liked", "hated", "long_view"]
IN_A_PROCESS = {"isolation": "process", "hang_after": "5s"}


def config(model: dict[str, Any] | None = None, **changes: Any) -> Config:
    """One user model, two rankers over it."""
    ranker = {"factory": "factories:sum_ranker", "user_models": ["sum"]}
    settings: dict[str, Any] = {
        "models": {"sum": {"factory": "factories:counting", **(model or {})}},
        "rankers": {"ctr": ranker, "like": {**ranker, "task": "like"}},
        "history": {"durability": "process"},
        "engine": {"isolation": "thread"},
    }
    return Config(**{**settings, **changes})


def request(services: Services, ranker: str, user: int | str = 7) -> RankRequest:
    return RankRequest(
        user=user,
        item_hashes=np.array([3, 1, 2], dtype=np.uint64),
        item_features=np.zeros((3, 0), dtype=np.float32),
        ranker=ranker,
        deadline_ns=services.clock.monotonic_ns() + 1_000_000_000,
        top_k=0,
    )


async def rank(services: Services, ranker: str = "ctr", user: int | str = 7) -> RankReply:
    asked = request(services, ranker, user)
    reply = await services.pipeline.rank(asked)
    services.pipeline.after_reply(asked, reply)
    return reply


async def refreshed(services: Services, wait_s: float = 5) -> None:
    """Until the refresh that the request just made has scheduled has ended well."""
    ended = asyncio.Event()
    counted = services.metrics.refreshed

    def count(model: str, outcome: str, users: int = 1) -> None:
        counted(model, outcome, users)
        if outcome == "ok":
            ended.set()

    with mock.patch.object(services.metrics, "refreshed", count):
        async with asyncio.timeout(wait_s):
            await ended.wait()


def trained(folder: Path, tensors: dict[str, Any] | None = None) -> Path:
    """A snapshot of a user tower and a ranker; tensors: of the tower, where not its own."""
    whole = tower_tensors(tower(), PRIOR.astype(np.float32))
    described = {
        "user_tower": {"shape": TOWER.describe(), "default": [0.5] * TOWER.dim},
        "ranker": RANKER.describe(),
        "history": {"types": TYPES, "attributes": ["age", "income"], "length": 32},
    }
    files = {TOWER_FILE: whole if tensors is None else tensors, RANKER_FILE: ranker().tensors}
    write_snapshot(folder, files, described)
    return folder


def of_snapshot(folder: Path) -> dict[str, Any]:
    """Settings of a server that `trained` models serve from, in a process of their own."""
    return {
        "models": {"sum": {"snapshot": str(folder), "default": "mean"}},
        "rankers": {"ctr": {"snapshot": str(folder), "user_models": ["sum"]}},
        "history": {"durability": "process", "types": TYPES, "attributes": ["age", "income"]},
        "engine": IN_A_PROCESS,
    }
