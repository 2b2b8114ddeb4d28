"""POST /v1/hint and POST /v1/invalidate: lists of users, checked as strictly as the codec does."""

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from aiohttp import web

from predawn.server.errors import BadRequest, UnknownName, nearest
from predawn.server.http.errors import json_response
from predawn.server.http.intake import Call, read_body
from predawn.server.http.services import Services
from predawn.server.request import UserId

NAME_LIMIT = 64  # as in the configuration
VERSION_LIMIT = 2**32  # of snapshots


class HintRoute:
    """Handler of POST /v1/hint: users who have arrived and will soon be asked for."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, call: Call) -> web.Response:
        """Replies with the number of refreshes, and of looks at a user's pairs, that were
        scheduled."""
        http = self._services.config.http
        body = members(await read_body(call.request, http), ("users",))
        users = user_list(body.get("users"), http.events_limit)
        hints = self._services.hints
        return json_response(
            {"scheduled": sum(each.hint(user) for each in hints for user in users)}
        )


class InvalidateRoute:
    """Handler of POST /v1/invalidate: forgets embeddings of users and of their pairs, of all models
    or of those named."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._models = tuple(services.config.models)
        self._pairs = tuple(services.config.pairs)

    async def __call__(self, call: Call) -> web.Response:
        """Replies with the number of user embeddings that were there; pairs are not counted."""
        http = self._services.config.http
        body = members(await read_body(call.request, http), ("users", "models"))
        users = user_list(body.get("users"), http.events_limit)
        known = (*self._models, *self._pairs)
        models = model_list(body["models"], known) if "models" in body else known
        of_pairs = [name for name in models if name in self._pairs]
        of_users = [name for name in models if name in self._models]
        self._services.pairs.invalidate(users, of_pairs)
        return json_response({"removed": self._services.cache.invalidate(users, of_users)})


def members(body: bytes, known: Sequence[str]) -> dict[str, Any]:
    """A JSON object of `known` members. BadRequest on anything else."""
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise BadRequest("", f"malformed JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("", "must be an object")
    for name in value:
        if name not in known:
            near = nearest(name, known) if len(name) <= 64 else None
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
            raise BadRequest(name[:64], f"unknown member; {hint}")
    return value


def user_list(value: Any, limit: int) -> list[UserId]:
    """1 to `limit` different ids."""
    users = [user_id(f"users[{i}]", each) for i, each in enumerate(_array("users", value))]
    if not 1 <= len(users) <= limit:
        raise BadRequest("users", f"1 to {limit} users (http.events_limit), got {len(users)}")
    return list(dict.fromkeys(users))


def user_id(field: str, value: Any) -> UserId:
    """An unsigned 64-bit integer, or a string of 1 to 256 bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < 2**64:
            return value
        raise BadRequest(field, "must be an integer from 0 to 2^64 - 1")
    if isinstance(value, str) and 1 <= len(_utf8(field, value)) <= 256:
        return value
    raise BadRequest(field, "must be an id: an integer from 0 to 2^64 - 1 or 1 to 256 bytes")


def model_list(value: Any, known: Sequence[str]) -> list[str]:
    """At least one name of a model that embeds."""
    names = name_list(value)
    for i, name in enumerate(names):
        if name not in known:
            raise UnknownName(f"models[{i}]", name, known)
    return names


def name_list(value: Any) -> list[str]:
    """At least one name, as long as a name can be."""
    names = _array("models", value)
    if not names:
        raise BadRequest("models", "has no models: leave it out for all")
    for i, name in enumerate(names):
        if not (isinstance(name, str) and len(name) <= NAME_LIMIT):
            raise BadRequest(f"models[{i}]", f"must be a name of at most {NAME_LIMIT} letters")
    return names


def _array(field: str, value: Any) -> list[Any]:
    if value is None:
        raise BadRequest(field, "is missing")
    if not isinstance(value, list):
        raise BadRequest(field, "must be an array")
    return value


def _utf8(field: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadRequest(field, "has half of a surrogate pair") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a member comes twice")
    return made


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
