"""GET /openapi.json: what the routes take and give, by hand, in OpenAPI 3.1.

Limits and names that the config decides (events' types, rankers) are stated as they are set.
"""

from collections.abc import Sequence
from typing import Any

from predawn.server.config import Config
from predawn.server.http.intake import REQUEST_ID_HEADER, TIMEOUT_HEADER
from predawn.server.http.openapi_schemas import schemas

_ERRORS = {
    "400": "Malformed or invalid: field and reason say what, nothing has changed.",
    "404": "No such path, ranker or model; the reason names the nearest.",
    "405": "The path does not take this method; `Allow` says which.",
    "408": "The body did not arrive in time.",
    "409": "Not possible now; the reason says what would help.",
    "413": "The body is longer than http.body_limit.",
    "415": "Not application/json.",
    "422": "A version cannot be loaded: damaged, or it does not fit; nothing has changed.",
    "429": "Overloaded; `Retry-After` says when to come back.",
    "500": "A model failed, or a bug; the log has it under the request id.",
    "503": "Draining, or a store is failing; `Retry-After` says when to come back.",
    "504": "Nothing could be served by the deadline.",
}
_BODY_ERRORS = ("400", "404", "405", "408", "413", "415", "429", "500", "503", "504")
_CHANGE_ERRORS = ("400", "404", "405", "408", "409", "413", "415")


def document(config: Config, version: str) -> dict[str, Any]:
    """The whole document, ready for JSON."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "predawn",
            "version": version,
            "summary": "Ranking from user embeddings that were computed before they are asked for.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**_posts(), **_gets(), **_models()},
        "components": {
            "schemas": schemas(config),
            "parameters": {"request_id": _REQUEST_ID, "timeout": _TIMEOUT, "timing": _TIMING},
            "headers": {
                "request_id": {"schema": {"type": "string"}, "description": "The request's id."},
                "retry_after": {"schema": {"type": "integer"}, "description": "Seconds to wait."},
                "timing": {
                    "schema": {"type": "string"},
                    "description": "recv_ns=..,decode=..,lookup=..,wait=..,rank=..,encode=..,"
                    "send_ns=..: stages in ns; the ends on the server's monotonic clock.",
                },
            },
            "responses": {code: _error(code, text) for code, text in _ERRORS.items()},
        },
    }


_REQUEST_ID = {
    "name": REQUEST_ID_HEADER,
    "in": "header",
    "description": "Up to 128 of A-Z a-z 0-9 . _ : / + = @ -; anything else is replaced.",
    "schema": {"type": "string", "maxLength": 128},
}
_TIMEOUT = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "description": "Deadline in ms from arrival; the shorter one of this and `timeout_ms`.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
_TIMING = {
    "name": "x-predawn-timing",
    "in": "header",
    "description": '"1" asks for the stages of this request in a reply header of that name.',
    "schema": {"type": "string", "enum": ["1"]},
}


def _posts() -> dict[str, Any]:
    rank = _post("rank", "Ranks candidates for a user.", "RankRequest", "RankReply")
    rank["parameters"] += [_ref("parameters", "timeout"), _ref("parameters", "timing")]
    rank["responses"]["200"]["headers"]["x-predawn-timing"] = _ref("headers", "timing")
    events = _post(
        "events",
        "Records what users saw and did, and their attributes; replies once it is committed.",
        "Events",
        "Accepted",
    )
    hint = _post(
        "hint", "Users have arrived: starts on their embeddings and pairs.", "Users", "Scheduled"
    )
    invalidate = _post("invalidate", "Forgets embeddings of users.", "Invalidation", "Removed")
    return {
        "/v1/rank": {"post": rank},
        "/v1/events": {"post": events},
        "/v1/hint": {"post": hint},
        "/v1/invalidate": {"post": invalidate},
    }


def _models() -> dict[str, Any]:
    known = _get("models", "Models and their versions: serving, staged, on disk.", "Models")
    load = _post(
        "load",
        "Loads a version beside what serves and stages it: all models asked for, or none.",
        "Load",
        "Loaded",
        (*_CHANGE_ERRORS, "422"),
    )
    swap = _post(
        "swap", "Makes staged versions live, all at once.", "Change", "Live", _CHANGE_ERRORS
    )
    rollback = _post(
        "rollback", "Makes previous versions live again.", "Change", "Live", _CHANGE_ERRORS
    )
    return {
        "/v1/models": {"get": known},
        "/v1/models/load": {"post": load},
        "/v1/models/swap": {"post": swap},
        "/v1/models/rollback": {"post": rollback},
    }


def _gets() -> dict[str, Any]:
    ready = _get("readyz", "Whether requests should come here.", "Status")
    ready["responses"]["503"] = _reply("The server is leaving or draining.", "Status")
    metrics = _get("metrics", "Counters and histograms for Prometheus.", "Status")
    metrics["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/livez": {"get": _get("livez", "Whether the server runs.", "Status")},
        "/readyz": {"get": ready},
        "/metrics": {"get": metrics},
        "/info": {"get": _get("info", "What is served, how it is set, what it counted.", "Info")},
        "/version": {"get": _get("version", "Name and version.", "Version")},
        "/openapi.json": {"get": _get("openapi", "This document.", "OpenApi")},
    }


def _post(
    name: str, text: str, takes: str, gives: str, errors: Sequence[str] = _BODY_ERRORS
) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": text,
        "parameters": [_ref("parameters", "request_id")],
        "requestBody": {"required": True, "content": _json(takes)},
        "responses": {
            "200": _reply(text, gives),
            **{code: _ref("responses", code) for code in errors},
        },
    }


def _get(name: str, text: str, gives: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": text,
        "parameters": [_ref("parameters", "request_id")],
        "responses": {"200": _reply(text, gives), "405": _ref("responses", "405")},
    }


def _reply(text: str, gives: str) -> dict[str, Any]:
    headers = {REQUEST_ID_HEADER: _ref("headers", "request_id")}
    return {"description": text, "headers": headers, "content": _json(gives)}


def _error(code: str, text: str) -> dict[str, Any]:
    reply = _reply(text, "Error")
    if code in ("429", "503"):
        reply["headers"]["retry-after"] = _ref("headers", "retry_after")
    return reply


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": _ref("schemas", schema)}}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
