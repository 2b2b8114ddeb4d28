"""The one place where an error becomes a status code and a JSON body.

{"error": {"code": "unknown_name", "field": "ranker", "reason": "...", "request_id": "..."}}

Every error that predawn raises on purpose has its line in the table; anything else is a bug and is
answered 500 without details, which are in the log under the request's id.
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from predawn.csrc._codec import CodecError
from predawn.server.errors import (
    DeadlineExceeded,
    InferenceError,
    Overloaded,
    PredawnError,
    RequestError,
    Unavailable,
    UnknownName,
    nearest,
)

HEADERS = {"server": "predawn"}

_LOG = logging.getLogger("predawn.http")
_NAMES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_too_slow",
    409: "conflict",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "load_failed",
}


class Refused(PredawnError):
    """A request that HTTP itself has an answer for: no such path, wrong method, type or size."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


def no_such_path(path: str, known: Iterable[str]) -> Refused:
    """404 that names the nearest path."""
    known = sorted(known)
    near = nearest(path, known) if len(path) <= 64 else None
    hint = f"did you mean {near}?" if near else f"known: {', '.join(known)}"
    return Refused(404, f"no path {path[:64]!r}; {hint}")


def wrong_method(method: str, path: str, allowed: Iterable[str]) -> Refused:
    """405 with the methods that the path has."""
    allow = ", ".join(allowed)
    return Refused(405, f"{path} does not take {method}; it takes {allow}", {"allow": allow})


@dataclass(frozen=True, slots=True)
class Fault:
    """How an error is told to the client."""

    status: int
    code: str
    reason: str
    field: str = ""
    headers: dict[str, str] | None = None


def fault_of(error: Exception, retry_after_s: float) -> Fault:
    """The table. `retry_after_s`: for errors that have no hint of their own."""
    match error:
        case CodecError():
            return Fault(400, _NAMES[400], error.reason, error.field)
        case UnknownName():
            return Fault(error.status, "unknown_name", error.reason, error.field)
        case RequestError():
            code = _NAMES.get(error.status, _NAMES[400])
            return Fault(error.status, code, error.reason, error.field)
        case Refused():
            return Fault(error.status, _NAMES[error.status], error.reason, "", error.headers)
        case web.HTTPRequestEntityTooLarge():
            return Fault(413, _NAMES[413], "the body is longer than http.body_limit")
        case web.RequestPayloadError() | HttpProcessingError():
            return Fault(400, _NAMES[400], "the body cannot be read as its headers promise")
        case Overloaded():
            return _later(error.status, "overloaded", str(error), error.retry_after_s)
        case Unavailable():
            return _later(error.status, "unavailable", str(error), retry_after_s)
        case DeadlineExceeded():
            return Fault(error.status, "deadline_exceeded", str(error) or "the deadline passed")
        case InferenceError():
            return Fault(500, "inference_failed", str(error))
        case _:
            return Fault(500, "internal", "a bug in predawn; the log has it under this request_id")


def answer(error: Exception, request_id: str, retry_after_s: float) -> web.Response:
    """The reply to a request that ended in `error`. A bug is logged with its traceback."""
    fault = fault_of(error, retry_after_s)
    if fault.code == "internal":
        _LOG.error("request %s failed", request_id, exc_info=error)
    elif fault.status == 500:
        _LOG.error("request %s failed: %s", request_id, fault.reason)
    return reply_of(fault, request_id)


def reply_of(fault: Fault, request_id: str) -> web.Response:
    """A fault as a response."""
    told = {
        "code": fault.code,
        "field": fault.field,
        "reason": fault.reason,
        "request_id": request_id,
    }
    # Names that a client sent may be anything: what is not Unicode is shown escaped.
    safe = {key: text.encode("utf-8", "backslashreplace").decode() for key, text in told.items()}
    return json_response({"error": safe}, fault.status, fault.headers)


def json_response(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Any JSON-ready value as a response."""
    return web.Response(
        body=orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY),
        status=status,
        content_type="application/json",
        headers=HEADERS | (headers or {}),
    )


def _later(status: int, code: str, reason: str, retry_after_s: float) -> Fault:
    # Whole seconds are all that the header can say (RFC 9110, section 10.2.3).
    wait = {"retry-after": str(max(1, math.ceil(retry_after_s)))}
    return Fault(status, code, reason, "", wait)
