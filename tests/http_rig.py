"""A real HTTP server on a loopback port for the tests of `server.http`, and its client.

History, cache and metrics are the real ones. `Script` stands for the pipeline and the refresher
where a test has to choose what happens behind the routes.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web

from predawn.server.cache import TableSpec, UserCache
from predawn.server.clock import SystemClock
from predawn.server.config import Config
from predawn.server.engine import AlignmentFit, Loaded, ModelVersions
from predawn.server.history import History
from predawn.server.http.app import web_server
from predawn.server.http.gate import Gate
from predawn.server.http.intake import RequestIds
from predawn.server.http.logging import AccessLog
from predawn.server.http.services import Services
from predawn.server.metrics import Metrics
from predawn.server.models.contract import RankerModel
from predawn.server.models.loading import ModelSource, Recipe
from predawn.server.pair_cache import PairCache
from predawn.server.request import F32, RankBatch, RankReply, RankRequest, Source, UserId, UserRow
from predawn.server.versions import LoadReport, ModelState, ServedModel

GOOD = b'{"user":1,"items":[10,20,30]}'


class StaticRanker:
    """A ranker of fixed members, never asked for scores here."""

    def __init__(self, tasks: tuple[str, ...], item_features: tuple[str, ...]) -> None:
        self.tasks = tasks
        self.item_features = item_features
        self.inline = True

    def score(self, batch: RankBatch) -> F32:
        raise AssertionError("the scripted pipeline has its own scores")


Behaviour = Callable[[RankRequest], Awaitable[RankReply]]


async def last_is_best(request: RankRequest) -> RankReply:
    """Scores 1, 2, ...; the user is known to "fresh" and unknown to "blank"."""
    n = len(request.item_hashes)
    scores = np.arange(1, n + 1, dtype=np.float32)
    row = np.zeros(2, np.float32)
    return RankReply(
        order=np.arange(n - 1, n - 1 - request.top_k, -1, dtype=np.int64),
        scores=scores,
        users={
            "fresh": UserRow(Source.DIRECT, 1200, row, 7),
            "blank": UserRow(Source.DEFAULT, -1, row, 0, "failed: boom"),
        },
        degraded=True,
        task_scores=np.stack([scores, scores / 2], axis=1) if request.explain else None,
        tasks=("click", "like"),
        stages_ns={"lookup": 11, "wait": 22, "rank": 33},
    )


@dataclass
class ScriptedVersions:
    """Versions that do not change: remembers what was asked for, or raises `error`."""

    error: Exception | None = None
    asked: list[tuple[str, Sequence[str] | None, int | None]] = field(default_factory=list)
    snapshot: str = ""

    def states(self) -> list[ModelState]:
        user = ServedModel(Recipe("user", ModelSource("models.fresh", self.snapshot)), dim=2)
        ranker = ServedModel(Recipe("ranker", ModelSource("rankers.ctr", factory="a:b")))
        return [
            ModelState("fresh", user, ModelVersions(3, 4, 2), True, ""),
            ModelState("blank", user, ModelVersions(0), False, "it is torn"),
            ModelState("ctr", ranker, ModelVersions(4), False, ""),
            ModelState("watch", ranker, ModelVersions(0), False, ""),
        ]

    async def load(self, names: Sequence[str] | None, version: int | None) -> LoadReport:
        self._ask("load", names, version)
        fit = AlignmentFit(70, 0.25, 0.75)
        loaded = (Loaded("fresh", 5, 12, 64), Loaded("blank", 5, 13, 65, alignment=fit))
        return LoadReport(loaded, ("ctr",))

    async def swap(self, names: Sequence[str] | None) -> dict[str, int]:
        self._ask("swap", names)
        return {"fresh": 5}

    async def rollback(self, names: Sequence[str] | None) -> dict[str, int]:
        self._ask("rollback", names)
        return {"fresh": 4}

    def _ask(self, what: str, names: Sequence[str] | None, version: int | None = None) -> None:
        self.asked.append((what, names, version))
        if self.error is not None:
            raise self.error


@dataclass
class Script:
    """Pipeline, refresher and speculator in one: does as told, remembers what it was asked."""

    behaviour: Behaviour = last_is_best
    asked: list[RankRequest] = field(default_factory=list)
    after: list[RankRequest] = field(default_factory=list)
    hinted: list[UserId] = field(default_factory=list)
    versions: ScriptedVersions = field(default_factory=ScriptedVersions)

    async def rank(self, request: RankRequest) -> RankReply:
        self.asked.append(request)
        return await self.behaviour(request)

    def after_reply(self, request: RankRequest, reply: RankReply) -> None:
        self.after.append(request)

    def hint(self, user: UserId) -> int:
        self.hinted.append(user)
        return 2

    def report(self) -> dict[str, dict[str, Any]]:
        return {}


def config_of(**http: Any) -> Config:
    """Two user models and two rankers; `http` overrides settings of that section."""
    model = {"factory": "some.module:model"}
    ranker = {"factory": "some.module:ranker", "user_models": ["fresh", "blank"]}
    return Config.model_validate(
        {
            "http": {"port": 0, "timeout": 5_000, **http},
            "history": {"attributes": ["income"], "durability": "process", "commit_delay": 0},
            "models": {"fresh": model, "blank": model},
            "rankers": {"ctr": ranker, "watch": ranker},
        }
    )


RANKERS: Mapping[str, RankerModel] = {
    "ctr": StaticRanker(("click", "like"), ("price", "age")),
    "watch": StaticRanker(("view",), ("age", "duration_s")),
}


def cache_of(clock: SystemClock) -> UserCache:
    default = np.zeros(2, np.float32)
    specs = [TableSpec(name, 2, 1, "fp32", 64, default) for name in ("fresh", "blank")]
    return UserCache(specs, clock, flush_delay_ms=5, flush_rows=64, seed=bytes(32))


def services_of(script: Script, config: Config, history: History) -> Services:
    clock = SystemClock()
    return Services(
        config=config,
        clock=clock,
        metrics=Metrics(tuple(config.models), tuple(config.rankers)),
        pipeline=script,
        history=history,
        hints=(script,),
        speculation=script,
        cache=cache_of(clock),
        pairs=PairCache([], clock, seed=bytes(32)),
        rankers=RANKERS,
        versions=script.versions,
        version="1.2.3",
    )


@dataclass(frozen=True)
class Answer:
    """One HTTP reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str, str]:
        """Status, code, field and reason of an error."""
        error = self.json["error"]
        assert error["request_id"] == self.headers.get("x-request-id", "")
        return self.status, error["code"], error["field"], error["reason"]


class Client:
    """Sends requests to one server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def send(
        self, method: str, path: str, body: bytes | None = None, /, **headers: str
    ) -> Answer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"content-type": "application/json"} if body is not None else {}
        async with self.session.request(
            method, self.url + path, data=body, headers=sent | names
        ) as reply:
            return Answer(reply.status, reply.headers, await reply.read())

    async def post(self, path: str, body: bytes, **headers: str) -> Answer:
        return await self.send("POST", path, body, **headers)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.send("GET", path, **headers)


@dataclass(frozen=True)
class Rig:
    """A server under test, its client and what is behind it."""

    client: Client
    services: Services
    history: History
    gate: Gate
    script: Script
    port: int


@asynccontextmanager
async def open_history(config: Config) -> AsyncGenerator[History]:
    history = History.from_config(config.history, SystemClock())
    history.open()
    writer = asyncio.create_task(history.run())
    try:
        yield history
    finally:
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer
        history.close()


@asynccontextmanager
async def rig(
    script: Script | None = None, access: float = 0.0, **http: Any
) -> AsyncGenerator[Rig]:
    script = script or Script()
    config = config_of(**http)
    async with open_history(config) as history:
        services = services_of(script, config, history)
        gate = Gate(config.http.in_flight_limit, config.seed)
        log = AccessLog(access, random.Random(1))
        server = web_server(services, gate, RequestIds("t"), log, config.http.body_limit)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        try:
            async with aiohttp.ClientSession() as session:
                client = Client(session, f"http://127.0.0.1:{port}")
                yield Rig(client, services, history, gate, script, port)
        finally:
            await runner.cleanup()


def run(test: Callable[[Rig], Awaitable[None]], script: Script | None = None, **http: Any) -> None:
    """Runs an async test against a server of its own."""

    async def main() -> None:
        async with rig(script, **http) as made:
            await test(made)

    asyncio.run(main())
