"""Start, signals and drain of `serve`, in this process: it is the main thread's loop."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
import uvloop
from http_rig import GOOD, Client, Script, config_of, last_is_best, open_history, services_of

from predawn.server.errors import ConfigError
from predawn.server.http.run import Stop, first_of, serve
from predawn.server.request import RankReply, RankRequest


class Held(Script):
    """Holds requests until released."""

    def __init__(self) -> None:
        super().__init__(self.held)
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def held(self, request: RankRequest) -> RankReply:
        self.arrived.set()
        await self.release.wait()
        return await last_is_best(request)


Test = Callable[[Client, Held, "asyncio.Task[None]"], Awaitable[None]]


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def run_served(
    test: Test,
    stop: Stop | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **http: int,
) -> None:
    async def main() -> None:
        held, config = Held(), config_of(**http)
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with open_history(config) as history, aiohttp.ClientSession() as session:
            services = services_of(held, config, history)
            server = asyncio.create_task(
                serve(services, lambda _, port: started.set_result(port), stop)
            )
            client = Client(session, f"http://127.0.0.1:{await started}")
            try:
                await test(client, held, server)
            finally:
                held.release.set()
                server.cancel()
                await asyncio.gather(server, return_exceptions=True)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


async def until_not_ready(client: Client) -> None:
    async with asyncio.timeout(10):
        while (await client.get("/readyz")).status != 503:
            pass


@pytest.mark.parametrize("loop_factory", LOOPS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_open_requests_end(
    number: signal.Signals, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def test(client: Client, held: Held, server: "asyncio.Task[None]") -> None:
        call = asyncio.create_task(client.post("/v1/rank", GOOD))
        await held.arrived.wait()
        os.kill(os.getpid(), number)
        await asyncio.wait({server}, timeout=0.1)
        assert not server.done()
        held.release.set()
        assert (await call).status == 200
        await asyncio.wait_for(server, 10)

    run_served(test, loop_factory=loop_factory)


def test_before_the_port_closes_the_server_is_not_ready_and_still_serves() -> None:
    async def test(client: Client, held: Held, server: "asyncio.Task[None]") -> None:
        held.release.set()
        os.kill(os.getpid(), signal.SIGTERM)
        await until_not_ready(client)
        answer = await client.post("/v1/rank", GOOD)
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert not server.done()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(server, 10)

    run_served(test, drain_wait=60_000)


def test_while_draining_new_connections_are_refused() -> None:
    async def test(client: Client, held: Held, server: "asyncio.Task[None]") -> None:
        call = asyncio.create_task(client.post("/v1/rank", GOOD))
        await held.arrived.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(client))
        writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            while True:  # until the port is closed
                try:
                    (await asyncio.open_connection("127.0.0.1", _port(client)))[1].close()
                except OSError:
                    break
        head = b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
        writer.write(head)
        rest = await asyncio.wait_for(reader.read(), 10)
        assert b"HTTP/1.1 503" in rest
        assert b"draining" in rest
        writer.close()
        held.release.set()
        assert (await call).status == 200
        await asyncio.wait_for(server, 10)

    run_served(test)


def _port(client: Client) -> int:
    return int(client.url.rsplit(":", 1)[1])


def test_a_second_signal_ends_at_once() -> None:
    async def test(client: Client, held: Held, server: "asyncio.Task[None]") -> None:
        call = asyncio.create_task(client.post("/v1/rank", GOOD))
        await held.arrived.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(server, 10)
        with pytest.raises(aiohttp.ClientError):
            await call

    run_served(test, drain_timeout=60_000)


def test_requests_that_outlast_the_drain_are_cut_off_and_said_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(client: Client, held: Held, server: "asyncio.Task[None]") -> None:
        call = asyncio.create_task(client.post("/v1/rank", GOOD))
        await held.arrived.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(server, 10)
        with pytest.raises(aiohttp.ClientError):
            await call

    with caplog.at_level(logging.WARNING, "predawn.http"):
        run_served(test, drain_timeout=20)
    assert "1 requests were cut off at the end of the drain" in caplog.messages


def test_whoever_runs_it_can_ask_it_to_stop() -> None:
    async def main() -> None:
        stop, config = Stop(), config_of()
        async with open_history(config) as history:
            services = services_of(Script(), config, history)
            await asyncio.wait_for(serve(services, lambda *_: stop.ask(), stop, signals=False), 10)

    asyncio.run(main())


def test_signal_handlers_are_gone_afterwards() -> None:
    async def main() -> None:
        stop, config = Stop(), config_of()
        async with open_history(config) as history:
            await serve(services_of(Script(), config, history), lambda *_: stop.ask(), stop)
        assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    asyncio.run(main())


def test_a_port_in_use_is_a_config_error_that_names_it() -> None:
    async def main(port: int) -> None:
        config = config_of(port=port)
        async with open_history(config) as history:
            await serve(services_of(Script(), config, history))

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}") as refused:
            asyncio.run(main(port))
    assert refused.value.field == "http.port"


def test_first_of_cancels_what_is_left() -> None:
    async def main() -> None:
        never = asyncio.Event()
        await first_of(never.wait(), asyncio.sleep(0), timeout_ms=60_000)
        await first_of(never.wait(), timeout_ms=1)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
