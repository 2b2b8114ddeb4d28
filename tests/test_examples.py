"""What docs/own_models.md promises: the examples are served as they say; a model that goes wrong is
named, replaced by what there is, and harms no other."""

import ast
import asyncio
import re
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from http_rig import Client
from whole_server import with_server

from predawn.server.config import Config
from predawn.server.http.services import Services

EXAMPLES = Path(__file__).parents[1] / "examples"
_SETTING = re.compile(r"\[|[a-z_]+ = ")
CLICKED = b'{"events":[{"user":7,"item":2,"types":["shown","clicked"]}]}'
RANK = b'{"user":7,"items":[1,2,3],"ranker":"%b"}'


def settings_of(*names: str) -> dict[str, Any]:
    """What the docstrings of examples say to write into own.toml."""
    texts = [ast.get_docstring(ast.parse((EXAMPLES / f"{n}.py").read_text())) or "" for n in names]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return tomllib.loads("\n".join(line for line in lines if _SETTING.match(line)))


def served(settings: dict[str, Any], use: Callable[[Client, Services], Awaitable[None]]) -> None:
    """A real server with these models."""
    base = {
        "http": {"port": 0, "timeout": 10_000},
        "engine": {"isolation": "thread"},
        "batcher": {"refresh_window": 0},
        "history": {"durability": "process"},
        "store": {"capacity": 64, "huge_pages": False},
    }

    with_server(Config.model_validate(base | settings), use)


async def ranked_until(client: Client, ranker: bytes, good: Callable[[Any], bool]) -> Any:
    """Replies to the same request until one is `good`; the computing takes a while."""
    async with asyncio.timeout(20):
        while True:
            answer = await client.post("/v1/rank", RANK % ranker)
            assert answer.status == 200, answer.json
            if good(answer.json):
                return answer.json
            await asyncio.sleep(0.02)


def user_source(reply: Any, model: str) -> str:
    found: str = reply["sources"]["user"][model]["source"]
    return found


def test_three_models_of_torch_are_served_as_their_docstrings_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    settings = settings_of("own_tower", "own_pair_model", "own_ranker")
    assert set(settings) == {"models", "pairs", "rankers"}

    async def use(client: Client, services: Services) -> None:
        assert (await client.post("/v1/events", CLICKED)).status == 200
        first = (await client.post("/v1/rank", RANK % b"own")).json
        assert user_source(first, "tower") == "default"
        assert first["sources"]["pairs"]["overlap"]["default"] == 3

        def all_direct(reply: Any) -> bool:
            pairs = reply["sources"]["pairs"]["overlap"]["direct"]
            return user_source(reply, "tower") == "direct" and pairs == 3

        later = await ranked_until(client, b"own", all_direct)
        assert [item["score"] for item in later["items"]] != [
            item["score"] for item in first["items"]
        ]

    served(settings, use)


@pytest.mark.parametrize("how", ["raises", "exits", "shape", "dtype", "nan"])
def test_a_model_that_goes_wrong_is_replaced_and_harms_no_other(how: str) -> None:
    settings = {
        "models": {
            "bad": {"factory": "factories:misbehaving", "options": {"how": how}},
            "good": {"factory": "factories:counting"},
        },
        "rankers": {
            f"by_{name}": {"factory": "factories:sum_ranker", "user_models": [name]}
            for name in ("bad", "good")
        },
    }

    async def use(client: Client, services: Services) -> None:
        assert (await client.post("/v1/events", CLICKED)).status == 200
        counts = services.metrics.models["bad"].inferences
        outcome = "invalid" if how == "nan" else "failed"

        def failed(reply: Any) -> bool:
            assert user_source(reply, "bad") == "default"
            return any(n for (_, ended), n in counts.items() if ended == outcome)

        await ranked_until(client, b"by_bad", failed)
        await ranked_until(client, b"by_good", lambda reply: user_source(reply, "good") == "direct")
        assert not any(n for (_, ended), n in counts.items() if ended == "ok")

    served(settings, use)


@pytest.mark.parametrize("on_failure", ["error", "as_sent"])
def test_a_ranker_that_fails_is_an_error_or_leaves_the_order(on_failure: str) -> None:
    settings = {
        "models": {"good": {"factory": "factories:counting"}},
        "rankers": {
            "bad": {
                "factory": "factories:failing_ranker",
                "user_models": ["good"],
                "on_failure": on_failure,
            }
        },
    }

    async def use(client: Client, services: Services) -> None:
        answer = await client.post("/v1/rank", RANK % b"bad")
        if on_failure == "error":
            assert answer.status == 500 and answer.json["error"]["code"] == "inference_failed"
            assert b"'bad'" in answer.body
            return
        assert answer.status == 200 and answer.json["degraded"]
        assert [(item["id"], item["score"]) for item in answer.json["items"]] == [
            (1, 0.0),
            (2, 0.0),
            (3, 0.0),
        ]
        assert services.metrics.as_sent == {"bad": 1}

    served(settings, use)
