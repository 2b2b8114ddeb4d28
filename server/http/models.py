"""GET /v1/models and POST /v1/models/load, /swap, /rollback: versions of models, for operators.

Not gated: a full or draining server can be looked at and rolled back. What takes long runs beside
the event loop.
"""

import asyncio
from typing import Any

from aiohttp import web

from predawn.server.config import Config
from predawn.server.engine import Loaded
from predawn.server.errors import BadRequest, SnapshotError
from predawn.server.http.admin import VERSION_LIMIT, members, name_list
from predawn.server.http.errors import json_response
from predawn.server.http.intake import Call, read_body
from predawn.server.http.services import Services
from predawn.server.models.catalogue import Listed, list_snapshots
from predawn.server.versions import ModelState


class ModelsRoute:
    """Handlers of the routes of models."""

    def __init__(self, services: Services) -> None:
        self._versions = services.versions
        self._config = services.config

    async def list(self, call: Call) -> web.Response:
        """Every model with its versions: live, staged, previous, on disk."""
        states = self._versions.states()
        paths = {each.model.recipe.source.snapshot for each in states} - {""}

        on_disk = await asyncio.to_thread(lambda: {path: _on_disk(path) for path in paths})

        told = [_model(each, self._config, on_disk) for each in states]
        return json_response({"models": told})

    async def load(self, call: Call) -> web.Response:
        """Stages a version of the models named, or of all: all of them or none."""
        body = members(await read_body(call.request, self._config.http), ("models", "version"))
        names, version = _names(body), _version(body)

        report = await self._versions.load(names, version)

        loaded = {each.name: _loaded(each) for each in report.loaded}
        return json_response({"loaded": loaded, "unchanged": report.unchanged})

    async def swap(self, call: Call) -> web.Response:
        """Makes what is staged live, of the models named or of all."""
        body = members(await read_body(call.request, self._config.http), ("models",))
        return json_response({"live": await self._versions.swap(_names(body))})

    async def rollback(self, call: Call) -> web.Response:
        """Goes back to what was live, of the models named or of those of the last swap."""
        body = members(await read_body(call.request, self._config.http), ("models",))
        return json_response({"live": await self._versions.rollback(_names(body))})


def _names(body: dict[str, Any]) -> list[str] | None:
    return name_list(body["models"]) if "models" in body else None


def _version(body: dict[str, Any]) -> int | None:
    version = body.get("version")
    if "version" in body and not (type(version) is int and 0 < version < VERSION_LIMIT):
        raise BadRequest("version", "must be a version's number, 1 or more; absent: the newest")
    return version


def _on_disk(path: str) -> list[dict[str, object]] | str:
    """The versions there are, or why that cannot be said."""
    try:
        return [_listed(each) for each in list_snapshots(path)]
    except (SnapshotError, OSError) as error:
        return str(error)


def _listed(each: Listed) -> dict[str, object]:
    return {
        "version": each.version,
        "bytes": each.size_bytes,
        "written_ms": each.written_ms,
        "problem": each.problem,
    }


def _model(
    state: ModelState, config: Config, on_disk: dict[str, list[dict[str, object]] | str]
) -> dict[str, object]:
    recipe, versions = state.model.recipe, state.versions
    found = on_disk.get(recipe.source.snapshot, [])
    problem = found if isinstance(found, str) else ""
    told: dict[str, object] = {
        "name": state.name,
        "kind": recipe.kind,
        "mode": config.models[state.name].mode if recipe.kind == "user" else None,
        "dim": state.model.dim or None,
        "live": versions.live,
        "staged": versions.staged,
        "previous": versions.previous,
        "path": recipe.source.snapshot,
        "on_disk": [] if problem else found,
        "loading": state.loading,
        "error": state.error or problem,
    }
    return told


def _loaded(loaded: Loaded) -> dict[str, object]:
    told: dict[str, object] = {
        "version": loaded.version,
        "took_ms": loaded.took_ms,
        "warmed_rows": loaded.warmed_rows,
    }
    if loaded.alignment is not None:
        fit = loaded.alignment
        told["alignment"] = {
            "users": fit.users,
            "cosine_before": fit.cosine_before,
            "cosine_after": fit.cosine_after,
        }
    return told
