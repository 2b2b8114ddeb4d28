"""A real server with a pair model: a first request is served the default, a later one the pairs."""

import asyncio
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from http_rig import Client
from prometheus_client.parser import text_string_to_metric_families
from whole_server import with_server

from predawn.server.config import Config
from predawn.server.errors import ConfigError
from predawn.server.http.services import Services
from predawn.server.wiring import running


def config_of(path: str = "", **ranker: Any) -> Config:
    """One pair model of 3 values and a ranker that wants them; path: of the store's files."""
    return Config.model_validate(
        {
            "http": {"port": 0, "timeout": 10_000},
            "engine": {"isolation": "thread"},
            "history": {"durability": "process"},
            "store": {"dtype": "fp32", "capacity": 64, "path": path},
            "models": {"sum": {"factory": "factories:counting"}},
            "pairs": {"fm": {"factory": "factories:pair_counting", "ttl": "1h", "capacity": 1000}},
            "rankers": {
                "ctr": {
                    "factory": "factories:pair_ranker",
                    "user_models": ["sum"],
                    "pair_models": ["fm"],
                    **ranker,
                }
            },
        }
    )


async def rank(client: Client, body: bytes) -> Any:
    answer = await client.post("/v1/rank", body)
    assert answer.status == 200, answer.json
    return answer.json


async def computed(services: Services, pairs: int) -> None:
    """Until so many missed pairs have ended, in whatever way."""
    counts, ended = services.metrics.pairs["fm"].missed, asyncio.Event()
    counted = services.metrics.missed

    def count(model: str, outcome: str, pairs_ended: int) -> None:
        counted(model, outcome, pairs_ended)
        if sum(counts.values()) >= pairs:
            ended.set()

    with mock.patch.object(services.metrics, "missed", count):
        count("fm", "ok", 0)  # those that have ended already
        async with asyncio.timeout(10):
            await ended.wait()


def sources(direct: int, default: int, user_mean: int = 0) -> dict[str, int]:
    fills = {"user_mean": user_mean, "recent": 0, "neighbour": 0}
    return {"direct": direct, **fills, "default": default}


@pytest.mark.parametrize("user", [b"7", b'"seven"'])
@pytest.mark.parametrize("items", [b"[21,22,1023]", b'["a","b","c"]'])
def test_the_first_request_gets_the_default_and_a_later_one_the_pairs(
    user: bytes, items: bytes
) -> None:
    body = b'{"user":%b,"items":%b,"explain":true}' % (user, items)

    async def use(client: Client, services: Services) -> None:
        first = await rank(client, body)
        assert first["sources"]["pairs"] == {"fm": sources(0, 3)}
        assert first["explain"]["pairs"]["fm"] == {
            "sources": ["default"] * 3,
            "ages_ms": [None] * 3,
        }
        await computed(services, 3)
        later = await rank(client, body)
        assert later["sources"]["pairs"] == {"fm": sources(3, 0)}
        assert [item["score"] for item in later["items"]] == pytest.approx([0.9] * 3)
        assert later["explain"]["pairs"]["fm"]["sources"] == ["direct"] * 3
        assert all(0 <= age < 10_000 for age in later["explain"]["pairs"]["fm"]["ages_ms"])
        assert not first["degraded"] and not later["degraded"]

    with_server(config_of(), use)


def test_an_absent_pair_is_served_the_mean_of_the_users_own_and_says_so() -> None:
    async def use(client: Client, services: Services) -> None:
        await rank(client, b'{"user":7,"items":[21,22]}')
        await computed(services, 2)
        reply = await rank(client, b'{"user":7,"items":[22,99],"explain":true}')
        assert reply["sources"]["pairs"] == {"fm": sources(1, 0, user_mean=1)}
        explained = reply["explain"]["pairs"]["fm"]
        at = {item["id"]: i for i, item in enumerate(reply["items"])}
        assert explained["sources"][at[22]] == "direct"
        assert explained["sources"][at[99]] == "user_mean"
        assert all(0 <= age < 10_000 for age in explained["ages_ms"])

    with_server(config_of(), use)


def test_what_a_broken_batch_missed_costs_no_other_request() -> None:
    async def use(client: Client, services: Services) -> None:
        await rank(client, b'{"user":7,"items":[13,14]}')
        await computed(services, 2)
        await rank(client, b'{"user":8,"items":[14]}')
        await computed(services, 3)
        reply = await rank(client, b'{"user":8,"items":[14,15]}')
        assert reply["sources"]["pairs"] == {"fm": sources(1, 0, user_mean=1)}
        assert services.metrics.pairs["fm"].missed["failed"] == 2

    with_server(config_of(), use)


def test_an_invalidated_user_has_no_pairs_and_others_keep_theirs() -> None:
    bodies = [b'{"user":7,"items":[1,2]}', b'{"user":8,"items":[1,2]}']

    async def use(client: Client, services: Services) -> None:
        for body in bodies:
            await rank(client, body)
        await computed(services, 4)
        answer = await client.post("/v1/invalidate", b'{"users":[7],"models":["fm"]}')
        assert answer.json == {"removed": 0}  # of user embeddings: pairs are not counted
        replies = [await rank(client, body) for body in bodies]
        pairs = [reply["sources"]["pairs"]["fm"] for reply in replies]
        assert pairs == [sources(0, 2), sources(2, 0)]
        assert (await client.post("/v1/invalidate", b'{"users":[8]}')).status == 200
        assert (await rank(client, bodies[1]))["sources"]["pairs"] == {"fm": sources(0, 2)}

    with_server(config_of(), use)


def test_a_restart_finds_the_pairs_and_what_was_invalidated(tmp_path: Path) -> None:
    bodies = [b'{"user":7,"items":[1,2]}', b'{"user":"8","items":[1,2]}']

    async def before(client: Client, services: Services) -> None:
        for body in bodies:
            await rank(client, body)
        await computed(services, 4)
        await client.post("/v1/invalidate", b'{"users":[7]}')

    async def after(client: Client, services: Services) -> None:
        replies = [await rank(client, body) for body in bodies]
        pairs = [reply["sources"]["pairs"]["fm"] for reply in replies]
        assert pairs == [sources(0, 2), sources(2, 0)]

    with_server(config_of(str(tmp_path)), before)
    with_server(config_of(str(tmp_path)), after)


def test_operators_see_the_pair_model() -> None:
    async def use(client: Client, services: Services) -> None:
        await rank(client, b'{"user":7,"items":[1,2]}')
        await computed(services, 2)
        info = (await client.get("/info")).json
        speculation = info["pairs"]["fm"].pop("speculation")
        assert info["pairs"] == {"fm": {"snapshot": 0, "ttl_ms": 3_600_000}}
        assert speculation["asked"] == speculation["computed"] == 2
        assert speculation["reason"] == ""
        assert info["rankers"]["ctr"]["pair_models"] == ["fm"]
        assert "factory" not in info["config"]["pairs"]["fm"]
        assert info["metrics"]["pairs"]["fm"]["missed"]["ok"] == 2
        assert info["metrics"]["store"]["fm"]["entries"] == 2
        text = (await client.get("/metrics")).body.decode()
        samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
        found = {(s.name, s.labels.get("source")): s.value for s in samples}
        assert found["predawn_pairs_total", "default"] == 2

    with_server(config_of(), use)


def test_a_ranker_that_wants_other_pairs_is_refused_at_the_start() -> None:
    async def main() -> None:
        async with running(config_of(pair_models=[])):
            raise AssertionError("it started")

    with pytest.raises(ConfigError, match=r"rankers.ctr: .*got pairs \(0, 0\), \(0, 0\)"):
        asyncio.run(main())
