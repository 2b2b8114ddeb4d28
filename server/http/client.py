"""A client of a running server, for the command line: one request, one JSON answer.

Invariant: whatever goes wrong is a `NotServed` whose message says what to do about it.
"""

import asyncio
from typing import Any

import aiohttp
import orjson

from predawn.server.errors import PredawnError

DEFAULT_URL = "http://127.0.0.1:8471"
_CONNECT_S = 5.0


class NotServed(PredawnError):
    """There is no server at the address, or it refused; status: of its reply, 0 without one."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


def ask(url: str, method: str, path: str, body: object = None) -> Any:
    """What the server at `url` answers, parsed. Waits as long as the server takes: a load of a
    large model may take minutes. NotServed."""
    return asyncio.run(_ask(url, method, path, body))


async def _ask(url: str, method: str, path: str, body: object) -> Any:
    data = None if body is None else orjson.dumps(body)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                method,
                url.rstrip("/") + path,
                data=data,
                headers={"content-type": "application/json"},
            ) as reply,
        ):
            status, text = reply.status, await reply.read()
    except aiohttp.InvalidURL:
        raise NotServed(f"--url: {url!r} is no address such as {DEFAULT_URL}") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        said = str(error) or type(error).__name__
        reason = f"{url}: {said}; is `predawn serve` running there? --url names another address"
        raise NotServed(reason) from None
    return _parsed(url, path, status, text)


def _parsed(url: str, path: str, status: int, text: bytes) -> Any:
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        reason = f"{url}{path}: answered {status} without JSON: is that a predawn server?"
        raise NotServed(reason, status) from None
    if status == 200:
        return answer
    error = answer.get("error", {}) if isinstance(answer, dict) else {}
    where = f"{error['field']}: " if error.get("field") else ""
    raise NotServed(f"{where}{error.get('reason', f'answered {status}')}", status)
