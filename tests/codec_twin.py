"""The codec once more, naively: `json.loads` and plain Python, as the tests' reference.

It accepts and refuses exactly what `predawn.csrc._codec` does, and says nothing about why.
"""

import json
import math
import re
import struct
from dataclasses import dataclass, field
from typing import Any, NoReturn

TEXT_LIMIT = 256
ID_LIMIT = 2**64


class Refused(Exception):
    """The body is not valid."""


@dataclass(frozen=True)
class Number:
    """A JSON number as it was written, so that 1, 1.0 and -0 stay apart."""

    text: str


@dataclass
class RankTwin:
    user: int | str
    items: list[int | str]
    features: list[list[float]]
    ranker: str = ""
    top_k: int = 0
    timeout_ms: float = 0.0
    explain: bool = False


@dataclass
class EventsTwin:
    users: list[int | str] = field(default_factory=list)
    items: list[int | str] = field(default_factory=list)
    t_ms: list[int] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    attributes: list[tuple[int | str, dict[str, float]]] = field(default_factory=list)


def need(condition: bool) -> None:
    if not condition:
        raise Refused


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    need(len(made) == len(pairs))
    return made


def _constant(name: str) -> NoReturn:
    raise Refused(name)


def parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_constant,
        )
    except (ValueError, RecursionError) as error:
        raise Refused from error
    need(isinstance(document, dict))
    return document  # type: ignore[no-any-return]


def string(value: object) -> str:
    need(isinstance(value, str))
    assert isinstance(value, str)
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise Refused from error
    need(1 <= size <= TEXT_LIMIT)
    return value


def integer(value: object, limit: int = ID_LIMIT) -> int:
    need(isinstance(value, Number))
    assert isinstance(value, Number)
    need(re.fullmatch(r"\d{1,20}", value.text) is not None)
    need(int(value.text) < limit)
    return int(value.text)


def real(value: object) -> float:
    need(isinstance(value, Number))
    assert isinstance(value, Number)
    number = float(value.text)
    need(math.isfinite(number))
    return number


def real32(value: object) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", real(value)))[0])
    except OverflowError as error:
        raise Refused from error


def identifier(value: object) -> int | str:
    return string(value) if isinstance(value, str) else integer(value)


def members(value: object, known: set[str]) -> dict[str, Any]:
    need(isinstance(value, dict))
    assert isinstance(value, dict)
    need(set(value) <= known)
    return value


def array(value: object) -> list[Any]:
    need(isinstance(value, list))
    assert isinstance(value, list)
    return value


def decode_rank(body: bytes, feature_names: tuple[str, ...], max_items: int) -> RankTwin:
    doc = members(parse(body), {"user", "items", "ranker", "top_k", "timeout_ms", "explain"})
    need("user" in doc and "items" in doc)
    entries = array(doc["items"])
    need(1 <= len(entries) <= max_items)
    items: list[int | str] = []
    rows: list[list[float]] = []
    for entry in entries:
        item = members(entry, {"id", "features"}) if isinstance(entry, dict) else {"id": entry}
        need("id" in item)
        items.append(identifier(item["id"]))
        sent = members(item.get("features", {}), set(feature_names))
        values = {name: real32(value) for name, value in sent.items()}
        rows.append([values.get(name, 0.0) for name in feature_names])
    need(len({type(item) for item in items}) == 1 and len(set(items)) == len(items))
    twin = RankTwin(identifier(doc["user"]), items, rows)
    if "ranker" in doc:
        twin.ranker = string(doc["ranker"])
    if "top_k" in doc:
        twin.top_k = integer(doc["top_k"])
        need(twin.top_k > 0)
    if "timeout_ms" in doc:
        twin.timeout_ms = real(doc["timeout_ms"])
        need(twin.timeout_ms > 0)
    if "explain" in doc:
        need(isinstance(doc["explain"], bool))
        twin.explain = doc["explain"]
    return twin


def _event(entry: object, type_names: tuple[str, ...], twin: EventsTwin) -> None:
    event = members(entry, {"user", "item", "type", "types", "t_ms"})
    need("user" in event and "item" in event and ("type" in event) != ("types" in event))
    names = [event["type"]] if "type" in event else array(event["types"])
    names = [string(name) for name in names]
    need(len(names) > 0 and set(names) <= set(type_names) and len(set(names)) == len(names))
    twin.users.append(identifier(event["user"]))
    twin.items.append(identifier(event["item"]))
    twin.types.append(sum(1 << type_names.index(name) for name in names))
    twin.t_ms.append(integer(event["t_ms"], 2**63) if "t_ms" in event else -1)


def decode_events(
    body: bytes, type_names: tuple[str, ...], attribute_names: tuple[str, ...], max_events: int
) -> EventsTwin:
    doc = members(parse(body), {"events", "users"})
    events, users = array(doc.get("events", [])), array(doc.get("users", []))
    need(len(events) + len(users) > 0 and max(len(events), len(users)) <= max_events)
    twin = EventsTwin()
    for entry in events:
        _event(entry, type_names, twin)
    for entry in users:
        user = members(entry, {"id", "attributes"})
        need(len(user) == 2)
        sent = members(user["attributes"], set(attribute_names))
        values = {name: real32(value) for name, value in sent.items()}
        twin.attributes.append((identifier(user["id"]), values))
    need(len({user for user, _ in twin.attributes}) == len(twin.attributes))
    return twin
