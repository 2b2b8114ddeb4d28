"""The server from its first connection to its last: start, signals, drain.

Drain, after the first SIGTERM or SIGINT: /readyz says 503 and everything is still served for
`drain_wait`; then the port is closed and new requests on open connections are refused; requests
inside have `drain_timeout` to end. A second signal ends all waiting at once.
"""

import asyncio
import logging
import random
import secrets
import signal
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext

from aiohttp import web

from predawn.server.config import HttpConfig
from predawn.server.errors import ConfigError
from predawn.server.http.app import web_server
from predawn.server.http.gate import Gate, Phase
from predawn.server.http.intake import RequestIds
from predawn.server.http.logging import AccessLog
from predawn.server.http.services import Services

_LOG = logging.getLogger("predawn.http")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACKLOG = 1024

OnStart = Callable[[str, int], None]


class Stop:
    """The wish to end: `asked` once, `at_once` the second time."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def ask(self) -> None:
        """A signal has come, or whoever runs the server wants it to end."""
        if self.asked.is_set():
            self.at_once.set()
        self.asked.set()


async def serve(
    services: Services,
    on_start: OnStart | None = None,
    stop: Stop | None = None,
    signals: bool = True,
) -> None:
    """Serves until a signal comes or `stop` is asked, then drains. `on_start` is told host and
    port once connections are accepted. ConfigError where the address cannot be bound. Signals
    are a matter of the main thread: elsewhere `signals` must be False."""
    http = services.config.http
    stop = stop or Stop()
    gate = Gate(http.in_flight_limit, services.config.seed)
    access = AccessLog(services.config.log.access, random.Random(services.config.seed))
    ids = RequestIds(secrets.token_hex(4))
    server = web_server(services, gate, ids, access, http.body_limit)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = await _bind(runner, http)
        with _signals(stop) if signals else nullcontext():
            host, port = runner.addresses[0][:2]
            _LOG.info("listening on http://%s:%d", host, port)
            if on_start is not None:
                on_start(host, port)

            await stop.asked.wait()
            await drain(gate, site, http, stop)
    finally:
        await runner.cleanup()


async def drain(gate: Gate, site: web.BaseSite, http: HttpConfig, stop: Stop) -> None:
    """Everything between the wish to end and the closing of the last connections."""
    gate.advance(Phase.LEAVING)
    _LOG.info("draining: %d requests inside", gate.inside)

    await first_of(stop.at_once.wait(), timeout_ms=http.drain_wait)
    await site.stop()
    gate.advance(Phase.DRAINING)
    await first_of(gate.empty(), stop.at_once.wait(), timeout_ms=http.drain_timeout)

    if gate.inside:
        _LOG.warning("%d requests were cut off at the end of the drain", gate.inside)


async def first_of(*waits: Awaitable[object], timeout_ms: int) -> None:
    """Returns when one of `waits` has ended or the time is over; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _bind(runner: web.BaseRunner, http: HttpConfig) -> web.BaseSite:
    site = web.TCPSite(runner, http.host, http.port, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        where = f"{http.host}:{http.port}"
        raise ConfigError("http.port", f"cannot listen on {where}: {error.strerror}") from error
    return site


@contextmanager
def _signals(stop: Stop) -> Generator[None]:
    """SIGTERM and SIGINT ask to stop; a third signal has its default effect again."""
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.asked.is_set():
            _remove(loop)
        stop.ask()

    for number in _SIGNALS:
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        _remove(loop)


def _remove(loop: asyncio.AbstractEventLoop) -> None:
    for number in _SIGNALS:
        loop.remove_signal_handler(number)
