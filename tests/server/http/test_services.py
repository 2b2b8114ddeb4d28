"""The real parts behind the routes: `wiring` fills `Services`, and requests go all the way."""

import asyncio
from dataclasses import fields

import aiohttp
from http_rig import Client

from predawn.server.config import Config
from predawn.server.http.run import Stop, serve
from predawn.server.http.services import Services
from predawn.server.wiring import running

CONFIG = {
    "http": {"port": 0, "timeout": 5_000},
    "history": {"durability": "process"},
    "models": {"user": {"factory": "predawn.bench.fault_models:user_model", "mode": "soap"}},
    "rankers": {"main": {"factory": "predawn.bench.fault_models:ranker", "user_models": ["user"]}},
}


def test_a_user_is_unknown_then_refreshed_then_served_then_forgotten() -> None:
    async def talk(client: Client, services: Services, stop: Stop) -> None:
        body = b'{"user":7,"items":[1,2,3],"top_k":2,"explain":true}'
        first = (await client.post("/v1/rank", body)).json
        assert first["sources"]["user"]["user"] == {"source": "default", "age_ms": None}
        assert len(first["items"]) == 2

        async with asyncio.timeout(20):
            while (reply := (await client.post("/v1/rank", body)).json)["sources"]["user"]["user"][
                "source"
            ] != "direct":
                pass
        assert reply["sources"]["user"]["user"]["age_ms"] >= 0
        assert len(reply["explain"]["tasks"]) == 1

        event = b'{"events":[{"user":7,"item":1,"type":"clicked"}]}'
        assert (await client.post("/v1/events", event)).json == {"accepted": 1}
        assert (await client.post("/v1/hint", b'{"users":[7,8]}')).json == {"scheduled": 1}
        assert (await client.post("/v1/invalidate", b'{"users":[7]}')).json == {"removed": 1}
        forgotten = (await client.post("/v1/rank", body)).json
        assert forgotten["sources"]["user"]["user"]["source"] == "default"

        metrics = (await client.get("/info")).json["metrics"]
        sources = metrics["models"]["user"]["sources"]
        assert sum(sources.values()) == metrics["requests"]
        stop.ask()

    async def main() -> None:
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stop = Stop()
        async with running(Config.model_validate(CONFIG)) as services:
            assert all(getattr(services, each.name) is not None for each in fields(Services))
            server = asyncio.create_task(
                serve(services, lambda _, port: started.set_result(port), stop, signals=False)
            )
            async with aiohttp.ClientSession() as session:
                await talk(Client(session, f"http://127.0.0.1:{await started}"), services, stop)
            await asyncio.wait_for(server, 10)

    asyncio.run(main())
