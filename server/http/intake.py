"""What comes in with a request, checked: its id, its body, its deadline. All of it bounded."""

import asyncio
import math
import re
from dataclasses import dataclass
from itertools import count

from aiohttp import web

from predawn.server.config import HttpConfig
from predawn.server.errors import BadRequest
from predawn.server.http.errors import Refused

TIMEOUT_HEADER = "x-request-timeout-ms"
REQUEST_ID_HEADER = "x-request-id"

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TYPES = ("application/json", "application/octet-stream")  # the latter also where none is stated


@dataclass(slots=True)
class Call:
    """One request under way. ranker: set by the rank route, for the metrics."""

    request: web.BaseRequest
    request_id: str
    arrived_ns: int
    ranker: str = ""


class RequestIds:
    """Ids of requests: the client's where it is sane, else `prefix` and a number."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._numbers = count(1)

    def of(self, request: web.BaseRequest) -> str:
        """The id of one request."""
        given = request.headers.get(REQUEST_ID_HEADER)
        if given is not None and _SANE_ID.fullmatch(given):
            return given
        return f"{self._prefix}-{next(self._numbers):x}"


async def read_body(request: web.BaseRequest, http: HttpConfig) -> bytes:
    """The body. Refused (408, 413, 415); what has not arrived within `http.timeout_limit` is
    given up, so that slow clients cannot hold all places."""
    if request.content_type not in _TYPES:
        raise Refused(415, f"content-type {request.content_type!r}; expected application/json")
    size = request.content_length
    if size is not None and size > http.body_limit:
        raise Refused(413, f"{size} bytes; at most {http.body_limit} (http.body_limit)")
    if request.content.is_eof():  # all there: no need to wait, nor for a timer
        body = request.content.read_nowait()
        if len(body) > http.body_limit:  # it was compressed, or in chunks
            raise Refused(413, f"{len(body)} bytes; at most {http.body_limit} (http.body_limit)")
        return body
    try:
        async with asyncio.timeout(http.timeout_limit / 1000):
            return await request.read()
    except TimeoutError:
        reason = f"the body did not arrive within {http.timeout_limit} ms (http.timeout_limit)"
        raise Refused(408, reason, {"connection": "close"}) from None


def timeout_ns(request: web.BaseRequest, body_timeout_ms: float, http: HttpConfig) -> int:
    """How long the request may take, in ns: `timeout_ms` of the body, the header, or the
    default; the shorter one where both are there. BadRequest where it is no time or too long."""
    asked = [_checked("timeout_ms", body_timeout_ms, http)] if body_timeout_ms else []
    header = request.headers.get(TIMEOUT_HEADER)
    if header is not None:
        asked.append(_checked(TIMEOUT_HEADER, _number(header), http))
    return round(min(asked, default=http.timeout) * 1e6)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRequest(TIMEOUT_HEADER, f"{text[:32]!r} is not a number of ms") from None


def _checked(field: str, value: float, http: HttpConfig) -> float:
    if not math.isfinite(value) or value <= 0:
        raise BadRequest(field, f"must be more than 0 ms, got {value:g}")
    if value > http.timeout_limit:
        reason = f"at most {http.timeout_limit} ms (http.timeout_limit), got {value:g}"
        raise BadRequest(field, reason)
    return value
