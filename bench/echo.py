"""Peers of the HTTP path: servers that read a request and send a reply of a given size.

`python -m predawn.bench.echo protocol|aiohttp PORT BYTES [STALL_EVERY STALL_MS]`. They decode the
JSON body, as every real server must, and do nothing else. `protocol` is the least that Python can
do (asyncio.Protocol, httptools, uvloop); `aiohttp` is the usual framework on the same loop.
"""

import asyncio
import sys
from typing import cast

import httptools
import orjson
import uvloop
from aiohttp import web

KINDS = ("protocol", "aiohttp")


def reply_body(size: int) -> bytes:
    """A JSON body of exactly `size` bytes (at least 10)."""
    return orjson.dumps({"pad": "x" * (size - 10)})


class _Echo(asyncio.Protocol):
    """HTTP/1.1 with keep-alive; one reply, made beforehand."""

    def __init__(self, reply: bytes, stall: tuple[int, int]) -> None:
        self._reply = reply
        self._stall_every, self._stall_ms = stall
        self._count = 0
        self._body = b""
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are transports by behaviour only
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, chunk: bytes) -> None:
        self._body += chunk

    def on_message_complete(self) -> None:
        if self._body:
            orjson.loads(self._body)
        self._body = b""
        self._count += 1
        if self._stall_every and self._count % self._stall_every == 0:
            loop = asyncio.get_running_loop()
            loop.call_later(self._stall_ms / 1e3, self._transport.write, self._reply)
        else:
            self._transport.write(self._reply)


def _whole_reply(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def serve_protocol(port: int, size: int, stall: tuple[int, int] = (0, 0)) -> asyncio.Server:
    """The bare echo on loopback; port 0 picks a free one. stall: (every n-th, by ms)."""
    reply = _whole_reply(reply_body(size))
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Echo(reply, stall), "127.0.0.1", port)


async def _serve_aiohttp(port: int, size: int) -> web.AppRunner:
    body = reply_body(size)

    async def handle(request: web.Request) -> web.Response:
        orjson.loads(await request.read() or b"{}")
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def _forever(kind: str, port: int, size: int) -> None:
    kept = await (serve_protocol if kind == "protocol" else _serve_aiohttp)(port, size)
    await asyncio.Event().wait()
    del kept


def main(arguments: list[str]) -> None:
    """Serves until killed."""
    kind, port, size = arguments
    if kind not in KINDS:
        raise SystemExit(f"echo: unknown kind {kind!r}; known: {', '.join(KINDS)}")
    uvloop.run(_forever(kind, int(port), int(size)))


if __name__ == "__main__":
    main(sys.argv[1:])
