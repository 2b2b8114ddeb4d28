"""JSON Schemas of the bodies, for the OpenAPI document. Closed objects: unknown members are
errors in requests, and replies have no others."""

from typing import Any

from predawn.server.config import Config
from predawn.server.http.admin import VERSION_LIMIT
from predawn.server.metrics import PAIR_SOURCES
from predawn.server.request import Source

Schema = dict[str, Any]

_ID: Schema = {
    "description": 'An unsigned 64-bit integer or a string of 1 to 256 bytes; 1 and "1" differ.',
    "oneOf": [
        {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
        {"type": "string", "minLength": 1, "maxLength": 256},
    ],
}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 256}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_OBJECT: Schema = {"type": "object"}


def schemas(config: Config) -> dict[str, Schema]:
    """All schemas by name."""
    return {
        "Id": _ID,
        **_rank_request(config),
        **_rank_reply(),
        **_events(config),
        **_users(config),
        **_versions(),
        "Error": _closed(
            error=_closed(
                code={"type": "string"},
                field={"type": "string", "description": "JSON path of the value at fault."},
                reason={"type": "string"},
                request_id={"type": "string"},
            )
        ),
        "Status": _closed(status={"enum": ["live", "ready", "leaving", "draining"]}),
        "Version": _closed(name={"const": "predawn"}, version={"type": "string"}),
        "Info": _closed(
            name={"const": "predawn"},
            version={"type": "string"},
            config=_OBJECT,
            models=_OBJECT,
            pairs=_OBJECT,
            rankers=_OBJECT,
            in_flight=_COUNT,
            metrics=_OBJECT,
        ),
        "OpenApi": _OBJECT,
    }


def _rank_request(config: Config) -> dict[str, Schema]:
    features = _map_of({"type": "number"})
    item = {"oneOf": [_ref("Id"), _closed(["id"], id=_ref("Id"), features=features)]}
    limit = config.http.timeout_limit
    return {
        "RankRequest": _closed(
            ["user", "items"],
            user=_ref("Id"),
            items={
                "description": "Different candidates; all ids integers or all strings.",
                "type": "array",
                "items": item,
                "minItems": 1,
                "maxItems": config.http.items_limit,
            },
            ranker=_NAME | {"examples": list(config.rankers)},
            top_k={"type": "integer", "minimum": 1, "description": "How many to return; all."},
            timeout_ms={
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": limit,
                "default": config.http.timeout,
            },
            explain={"type": "boolean", "default": False},
        )
    }


def _rank_reply() -> dict[str, Schema]:
    served = _closed(
        source={"enum": [source.label for source in Source]},
        age_ms={"type": ["integer", "null"], "description": "null: nothing was known."},
    )
    model = _closed(snapshot=_COUNT, reason={"type": "string"})
    scores = {"type": "array", "items": {"type": "number"}}
    of_pairs = _closed(
        sources={"type": "array", "items": {"enum": [source.label for source in PAIR_SOURCES]}},
        ages_ms={"type": "array", "items": {"type": ["integer", "null"]}},
    )
    explain = _closed(models=_map_of(model), tasks=_map_of(scores), pairs=_map_of(of_pairs))
    counts = _closed(**{source.label: _COUNT for source in PAIR_SOURCES})
    ranked = _closed(id=_ref("Id"), score={"type": "number"})
    members: Schema = {
        "ranker": _NAME,
        "items": {"type": "array", "items": ranked, "description": "Best first."},
        "sources": _closed(user=_map_of(served), pairs=_map_of(counts)),
        "degraded": {
            "type": "boolean",
            "description": "An embedding is not what was asked for: late, failed or refused.",
        },
        "took_us": _COUNT,
        "request_id": {"type": "string"},
        "explain": explain,
    }
    required = [name for name in members if name != "explain"]
    return {"RankReply": _closed(required, **members)}


def _events(config: Config) -> dict[str, Schema]:
    kind: Schema = {"enum": list(config.history.types)}
    event = _closed(
        ["user", "item"],
        user=_ref("Id"),
        item=_ref("Id"),
        type=kind,
        types={"type": "array", "items": kind, "minItems": 1, "uniqueItems": True},
        t_ms={"type": "integer", "minimum": 0, "description": "Since 1970; absent: now."},
    )
    event["oneOf"] = [{"required": ["type"]}, {"required": ["types"]}]
    attributes = _closed([], **{name: {"type": "number"} for name in config.history.attributes})
    user = _closed(["id", "attributes"], id=_ref("Id"), attributes=attributes)
    limit = config.http.events_limit
    return {
        "Events": _closed(
            [],
            events={"type": "array", "items": event, "maxItems": limit},
            users={"type": "array", "items": user, "maxItems": limit},
        ),
        "Accepted": _closed(accepted=_COUNT),
    }


def _users(config: Config) -> dict[str, Schema]:
    limit = config.http.events_limit
    users: Schema = {"type": "array", "items": _ref("Id"), "minItems": 1, "maxItems": limit}
    known = [*config.models, *config.pairs]
    models: Schema = {"type": "array", "items": {"enum": known}, "minItems": 1}
    return {
        "Users": _closed(users=users),
        "Scheduled": _closed(scheduled=_COUNT),
        "Invalidation": _closed(["users"], users=users, models=models),
        "Removed": _closed(removed=_COUNT),
    }


def _versions() -> dict[str, Schema]:
    """Of the routes of models. Names may be those of user models, pair models and rankers."""
    version: Schema = {"type": "integer", "minimum": 1, "maximum": VERSION_LIMIT - 1}
    names: Schema = {"type": "array", "items": _NAME, "minItems": 1}
    maybe: Schema = {"type": ["integer", "null"]}
    on_disk = _closed(version=_COUNT, bytes=_COUNT, written_ms=_COUNT, problem={"type": "string"})
    model = _closed(
        name=_NAME,
        kind={"enum": ["user", "pair", "ranker"]},
        mode={"type": ["string", "null"], "description": "Of a user model."},
        dim={**maybe, "description": "Values of an embedding; null: a ranker."},
        live={**_COUNT, "description": "0: the model has no snapshot."},
        staged=maybe,
        previous=maybe,
        path={"type": "string", "description": "models.NAME.snapshot of the configuration."},
        on_disk={"type": "array", "items": on_disk},
        loading={"type": "boolean"},
        error={"type": "string", "description": "Why the last load failed."},
    )
    fit = _closed(users=_COUNT, cosine_before=_NUMBER, cosine_after=_NUMBER)
    loaded = _closed(
        ["version", "took_ms", "warmed_rows"],
        version=_COUNT,
        took_ms=_COUNT,
        warmed_rows={**_COUNT, "description": "Rows of recent requests that it was tried on."},
        alignment=fit,
    )
    newest = "Absent: the newest of each."
    return {
        "Models": _closed(models={"type": "array", "items": model}),
        "Load": _closed([], models=names, version={**version, "description": newest}),
        "Loaded": _closed(
            loaded=_map_of(loaded),
            unchanged={"type": "array", "items": _NAME, "description": "Live or staged already."},
        ),
        "Change": _closed([], models=names),
        "Live": _closed(live=_map_of(_COUNT)),
    }


def _closed(required: list[str] | None = None, /, **members: Schema) -> Schema:
    """An object of these members and no others; all of them required unless said otherwise."""
    return {
        "type": "object",
        "properties": members,
        "required": list(members) if required is None else required,
        "additionalProperties": False,
    }


def _map_of(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
