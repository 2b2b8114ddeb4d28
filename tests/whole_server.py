"""A whole server of a configuration, all of it real, with a client."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
from http_rig import Client

from predawn.server.config import Config
from predawn.server.http.run import Stop, serve
from predawn.server.http.services import Services
from predawn.server.wiring import running


def with_server(config: Config, use: Callable[[Client, Services], Awaitable[None]]) -> None:
    """`use` while it runs; then it stops, in 10 s at most."""

    async def main() -> None:
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stop = Stop()
        async with running(config) as services:
            server = asyncio.create_task(
                serve(services, lambda _, port: started.set_result(port), stop, signals=False)
            )
            async with aiohttp.ClientSession() as session:
                await use(Client(session, f"http://127.0.0.1:{await started}"), services)
            stop.ask()
            await asyncio.wait_for(server, 10)

    asyncio.run(main())
