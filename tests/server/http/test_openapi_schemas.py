"""The schemas hold for real bodies: a small validator of the keywords they use checks both ways."""

import json
from typing import Any

import pytest
from http_rig import GOOD, Rig, config_of, run

from predawn.server.http.openapi_schemas import schemas

SCHEMAS = schemas(config_of())
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
    "number": (int, float), "null": type(None),
}  # fmt: skip
KEYWORDS = {
    "$ref", "type", "enum", "const", "oneOf", "properties", "required", "additionalProperties",
    "items", "minItems", "maxItems", "uniqueItems", "minLength", "maxLength", "minimum", "maximum",
    "exclusiveMinimum", "description", "default", "examples",
}  # fmt: skip


def is_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])


def bounded(value: Any, schema: dict[str, Any]) -> bool:
    size = len(value) if isinstance(value, list | str) else 0
    number = value if isinstance(value, int | float) else 0
    return (
        schema.get("minItems", 0) <= size <= schema.get("maxItems", size)
        and schema.get("minLength", 0) <= size <= schema.get("maxLength", size)
        and schema.get("minimum", number) <= number <= schema.get("maximum", number)
        and not (schema.get("uniqueItems") and len(set(value)) < size)
        and not ("exclusiveMinimum" in schema and number <= schema["exclusiveMinimum"])
    )


def holds(value: Any, schema: dict[str, Any]) -> bool:
    """Whether `value` is what `schema` says; an unknown keyword is an error of the test."""
    assert set(schema) <= KEYWORDS, set(schema) - KEYWORDS
    if "$ref" in schema:
        return holds(value, SCHEMAS[schema["$ref"].rsplit("/", 1)[1]])
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(is_type(value, kind) for kind in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if not bounded(value, schema):
        return False
    if isinstance(value, list) and "items" in schema:
        return all(holds(each, schema["items"]) for each in value)
    if isinstance(value, dict) and not members_hold(value, schema):
        return False
    if "oneOf" in schema:
        return sum(holds(value, each) for each in schema["oneOf"]) == 1
    return True


def members_hold(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    properties = schema.get("properties", {})
    if not set(schema.get("required", [])) <= set(value):
        return False
    others = schema.get("additionalProperties", True)
    for name, each in value.items():
        if name in properties:
            if not holds(each, properties[name]):
                return False
        elif others is False or (others is not True and not holds(each, others)):
            return False
    return True


GOOD_BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("/v1/rank", "RankRequest", {"user": 1, "items": [1, 2]}),
    ("/v1/rank", "RankRequest", {"user": "u", "items": ["a", {"id": "b"}], "top_k": 1}),
    ("/v1/rank", "RankRequest", {"user": 1, "items": [{"id": 2, "features": {"age": 1.5}}],
     "ranker": "ctr", "timeout_ms": 40.5, "explain": True}),
    ("/v1/events", "Events", {"events": [{"user": 1, "item": "x", "type": "shown"}]}),
    ("/v1/events", "Events", {"events": [{"user": 1, "item": 2, "types": ["shown", "liked"],
     "t_ms": 5}], "users": [{"id": 1, "attributes": {"income": 2}}]}),
    ("/v1/hint", "Users", {"users": [1, "a"]}),
    ("/v1/invalidate", "Invalidation", {"users": [1]}),
    ("/v1/invalidate", "Invalidation", {"users": [1], "models": ["fresh"]}),
    ("/v1/models/load", "Load", {}),
    ("/v1/models/load", "Load", {"models": ["fresh", "ctr"], "version": 3}),
    ("/v1/models/swap", "Change", {"models": ["fresh"]}),
    ("/v1/models/rollback", "Change", {}),
]  # fmt: skip
BAD_BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("/v1/rank", "RankRequest", {"user": 1}),
    ("/v1/rank", "RankRequest", {"user": 1, "items": []}),
    ("/v1/rank", "RankRequest", {"user": -1, "items": [1]}),
    ("/v1/rank", "RankRequest", {"user": True, "items": [1]}),
    ("/v1/rank", "RankRequest", {"user": 2**64, "items": [1]}),
    ("/v1/rank", "RankRequest", {"user": "", "items": [1]}),
    ("/v1/rank", "RankRequest", {"user": 1, "items": [1], "top_k": 0}),
    ("/v1/rank", "RankRequest", {"user": 1, "items": [1], "timeout_ms": 0}),
    ("/v1/rank", "RankRequest", {"user": 1, "items": [1], "timeout_ms": 10_001}),
    ("/v1/rank", "RankRequest", {"user": 1, "items": [1], "context": {}}),
    ("/v1/rank", "RankRequest", {"user": 1, "items": [{"id": 1, "feature": {}}]}),
    ("/v1/events", "Events", {"events": [{"user": 1, "item": 2}]}),
    ("/v1/events", "Events", {"events": [{"user": 1, "item": 2, "type": "seen"}]}),
    ("/v1/events", "Events", {"events": [{"user": 1, "item": 2, "type": "shown", "types": []}]}),
    ("/v1/events", "Events", {"users": [{"id": 1, "attributes": {"height": 2}}]}),
    ("/v1/hint", "Users", {"users": []}),
    ("/v1/invalidate", "Invalidation", {"users": [1], "models": ["stale"]}),
    ("/v1/models/load", "Load", {"version": 0}),
    ("/v1/models/load", "Load", {"version": True}),
    ("/v1/models/load", "Load", {"version": None}),
    ("/v1/models/load", "Load", {"versions": 1}),
    ("/v1/models/swap", "Change", {"models": []}),
    ("/v1/models/swap", "Change", {"models": [1]}),
    ("/v1/models/swap", "Change", {"version": 1}),
    ("/v1/models/rollback", "Change", {"models": "fresh"}),
]


@pytest.mark.parametrize(("path", "name", "body"), GOOD_BODIES)
def test_bodies_that_the_schema_allows_are_served(
    path: str, name: str, body: dict[str, Any]
) -> None:
    async def test(it: Rig) -> None:
        assert holds(body, SCHEMAS[name])
        answer = await it.client.post(path, json.dumps(body).encode())
        assert answer.status == 200
        assert holds(answer.json, SCHEMAS[REPLIES[path]]), answer.json

    run(test)


REPLIES = {
    "/v1/rank": "RankReply",
    "/v1/events": "Accepted",
    "/v1/hint": "Scheduled",
    "/v1/invalidate": "Removed",
    "/v1/models": "Models",
    "/v1/models/load": "Loaded",
    "/v1/models/swap": "Live",
    "/v1/models/rollback": "Live",
    "/livez": "Status",
    "/readyz": "Status",
    "/version": "Version",
    "/info": "Info",
}


@pytest.mark.parametrize(("path", "name", "body"), BAD_BODIES)
def test_bodies_that_the_schema_forbids_are_refused(
    path: str, name: str, body: dict[str, Any]
) -> None:
    async def test(it: Rig) -> None:
        assert not holds(body, SCHEMAS[name])
        answer = await it.client.post(path, json.dumps(body).encode())
        assert 400 <= answer.status < 500
        assert holds(answer.json, SCHEMAS["Error"])

    run(test)


@pytest.mark.parametrize("path", ["/v1/models", "/livez", "/readyz", "/version", "/info"])
def test_get_replies_are_as_described(path: str) -> None:
    async def test(it: Rig) -> None:
        await it.client.post("/v1/rank", GOOD)
        assert holds((await it.client.get(path)).json, SCHEMAS[REPLIES[path]])

    run(test)
