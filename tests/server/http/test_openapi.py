"""The OpenAPI document: whole, consistent, and true to the routes."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from http_rig import Rig, config_of, run

from predawn.server.http.app import routes
from predawn.server.http.openapi import document

DOCUMENT = document(config_of(), "1.2.3")
OPERATIONS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


def test_every_route_is_described_and_nothing_else() -> None:
    async def test(it: Rig) -> None:
        served = {
            (path, method.lower())
            for path, route in routes(it.services, it.gate).items()
            for method in route.methods
            if method != "HEAD"
        }
        assert {(path, method) for path, method, _ in OPERATIONS} == served

    run(test)


def test_it_is_served_as_built() -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.get("/openapi.json")
        assert answer.json == json.loads(json.dumps(document(it.services.config, "1.2.3")))

    run(test)


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from nodes(each)
    elif isinstance(value, list):
        for each in value:
            yield from nodes(each)


def test_every_reference_leads_somewhere() -> None:
    references = [node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node]
    assert len(references) > 50
    for reference in references:
        target: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target


def test_every_component_is_used() -> None:
    used = {node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node}
    for kind, named in DOCUMENT["components"].items():
        for name in named:
            assert f"#/components/{kind}/{name}" in used, (kind, name)


def test_it_has_what_openapi_3_1_asks_for() -> None:
    assert re.fullmatch(r"3\.1\.\d+", DOCUMENT["openapi"])
    assert {"title", "version"} <= set(DOCUMENT["info"])
    assert set(DOCUMENT) <= {"openapi", "info", "paths", "components"}
    for response in DOCUMENT["components"]["responses"].values():
        assert response["description"]
    for parameter in DOCUMENT["components"]["parameters"].values():
        assert parameter["in"] == "header"
        assert {"name", "schema"} <= set(parameter)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_every_operation_is_whole(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["operationId"]
    assert operation["summary"].endswith(".")
    assert operation["responses"]["200"]["description"]
    assert ("requestBody" in operation) == (method == "post")
    assert all(re.fullmatch(r"[245]\d\d", code) for code in operation["responses"])


def test_operation_ids_differ() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
