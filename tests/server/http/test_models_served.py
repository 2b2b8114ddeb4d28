"""A real server whose models change under requests: over HTTP, from the first load to the last."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from http_rig import Client
from prometheus_client.parser import text_string_to_metric_families
from version_cases import damage, publish
from whole_server import with_server

from predawn.server.config import Config
from predawn.server.http.services import Services

RANK = b'{"user":7,"items":[1,2,3],"explain":true}'


def config_of(folder: Path, isolation: str) -> Config:
    def trained(name: str, factory: str) -> dict[str, Any]:
        return {"snapshot": str(folder / name), "factory": f"version_cases:{factory}"}

    user = {**trained("user", "user_model"), "mode": "realtime", "wait": "5s", "default": "mean"}
    ranker = {**trained("ranker", "ranker"), "user_models": ["user"]}
    return Config.model_validate(
        {
            "http": {"port": 0, "timeout": 10_000},
            "engine": {"isolation": isolation, "device": "cpu"},
            "history": {"durability": "process", "types": ["clicked"]},
            "models": {"user": user, "fixed": {"factory": "version_cases:user_model"}},
            "rankers": {
                "loop": {**ranker, "options": {"inline": True}},
                "engine": {**ranker, "options": {"inline": False}},
            },
        }
    )


def with_versions(folder: Path, isolation: str, use: Callable[[Client], Awaitable[None]]) -> None:
    """A server whose user model and ranker have a version each."""

    async def client_only(client: Client, services: Services) -> None:
        del services
        await use(client)

    for name in ("user", "ranker"):
        publish(folder / name)
    with_server(config_of(folder, isolation), client_only)


async def served(client: Client, ranker: str = "loop") -> tuple[int, float]:
    """Version of the user model and value of the ranker that one request was answered with."""
    body = RANK.replace(b"}", f',"ranker":"{ranker}"}}'.encode())
    answer = await client.post("/v1/rank", body)
    assert answer.status == 200, answer.json
    assert not answer.json["degraded"]
    return answer.json["explain"]["models"]["user"]["snapshot"], answer.json["items"][0]["score"]


async def change(client: Client, what: str, body: bytes = b"{}") -> Any:
    answer = await client.post(f"/v1/models/{what}", body)
    assert answer.status == 200, answer.json
    return answer.json


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_new_version_is_loaded_swapped_in_and_rolled_back_under_requests(
    tmp_path: Path, isolation: str
) -> None:
    async def use(client: Client) -> None:
        busy = asyncio.create_task(ask_until_cancelled(client))
        assert await served(client) == await served(client, "engine") == (1, 1)
        for name in ("user", "ranker"):
            publish(tmp_path / name)
        told = await change(client, "load")
        assert {name: each["version"] for name, each in told["loaded"].items()} == {
            "user": 2, "loop": 2, "engine": 2,
        }  # fmt: skip
        assert all(each["warmed_rows"] > 0 for each in told["loaded"].values())
        assert await served(client) == (1, 1)
        assert await change(client, "swap") == {"live": {"user": 2, "loop": 2, "engine": 2}}
        assert await served(client) == await served(client, "engine") == (2, 2)
        assert (await client.get("/info")).json["models"]["user"]["snapshot"] == 2
        assert await change(client, "rollback") == {"live": {"user": 1, "loop": 1, "engine": 1}}
        assert await served(client) == await served(client, "engine") == (1, 1)
        assert await change(client, "swap", b'{"models":["loop"]}') == {"live": {"loop": 2}}
        assert await served(client) == (1, 2)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        await check_metrics(client)

    with_versions(tmp_path, isolation, use)


async def ask_until_cancelled(client: Client) -> None:
    while True:
        await served(client)


async def check_metrics(client: Client) -> None:
    text = (await client.get("/metrics")).body.decode()
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["predawn_model_version", "live", "user"] == 1
    assert samples["predawn_model_version", "staged", "user"] == 2
    assert samples["predawn_model_version", "live", "loop"] == 2
    assert samples["predawn_model_version", "loop", "previous"] == 1
    assert samples["predawn_model_changes_total", "loop", "swap"] == 2
    assert samples["predawn_model_changes_total", "engine", "rollback"] == 1
    assert samples["predawn_model_load_seconds_count",] == 1
    answered = [v for (name, *labels), v in samples.items() if name == "predawn_requests_total"]
    assert sum(answered) == sum(
        v for (name, *labels), v in samples.items()
        if name == "predawn_requests_total" and "200" in labels
    )  # fmt: skip


def test_what_cannot_be_done_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        async def refused(what: str, body: bytes, *wanted: object) -> None:
            answer = await client.post(f"/v1/models/{what}", body)
            *told, reason = answer.error
            assert (*told, str(wanted[-1]) in reason) == (*wanted[:-1], True), answer.json

        damage(tmp_path / "user", publish(tmp_path / "user"))
        publish(tmp_path / "ranker", tasks=["click", "like"])
        before = (await client.get("/v1/models")).json["models"]
        torn = "weights.safetensors: has 3 bytes"
        await refused("load", b"{}", 422, "load_failed", "models.user", torn)
        for ranker in ("loop", "engine"):
            body = f'{{"models":["{ranker}"]}}'.encode()
            await refused("load", body, 422, "load_failed", f"rankers.{ranker}", "needs a restart")
        body = b'{"models":["user"],"version":9}'
        await refused("load", body, 422, "load_failed", "models.user", "no version 9; it has 1, 2")
        body = b'{"models":["fixed"]}'
        await refused("load", body, 409, "conflict", "models[0]", "fixed has no snapshot")
        for what in ("swap", "rollback"):
            await refused(what, b"{}", 409, "conflict", "", "no version is")
        body = b'{"models":["usr"]}'
        await refused("swap", body, 404, "unknown_name", "models[0]", "did you mean 'user'?")
        after = (await client.get("/v1/models")).json["models"]
        assert [each.pop("error") != "" for each in after] == [True, False, True, True]
        assert after == [{k: v for k, v in each.items() if k != "error"} for each in before]
        assert await served(client) == (1, 1)

    with_versions(tmp_path, "thread", use)
