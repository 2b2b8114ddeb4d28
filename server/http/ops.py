"""GET routes for operators and their tools: health, metrics, what runs here, the API's description.

None of them counts against the in-flight limit, so that a full or draining server can be seen.
"""

from aiohttp import web

from predawn.server.config import Config
from predawn.server.http.errors import HEADERS, json_response
from predawn.server.http.gate import Gate, Phase
from predawn.server.http.intake import Call
from predawn.server.http.openapi import document
from predawn.server.http.services import Services
from predawn.server.metrics_render import CONTENT_TYPE, render


class Ops:
    """Handlers of the GET routes."""

    def __init__(self, services: Services, gate: Gate) -> None:
        self._services = services
        self._gate = gate
        self._version = services.version
        self._openapi = document(services.config, self._version)

    async def livez(self, call: Call) -> web.Response:
        """200: the event loop runs."""
        return json_response({"status": "live"})

    async def readyz(self, call: Call) -> web.Response:
        """200: send requests here; 503: no more, the server is about to end."""
        if self._gate.phase == Phase.SERVING:
            return json_response({"status": "ready"})
        return json_response({"status": self._gate.phase.name.lower()}, 503)

    async def metrics(self, call: Call) -> web.Response:
        """Prometheus text."""
        headers = {**HEADERS, "content-type": CONTENT_TYPE}
        return web.Response(body=render(self._services.metrics), headers=headers)

    async def version(self, call: Call) -> web.Response:
        """Name and version."""
        return json_response({"name": "predawn", "version": self._version})

    async def openapi(self, call: Call) -> web.Response:
        """OpenAPI 3.1."""
        return json_response(self._openapi)

    async def info(self, call: Call) -> web.Response:
        """What is served, how it is set, and what it has counted so far."""
        services = self._services
        live = {each.name: each.versions.live for each in services.versions.states()}
        speculation = services.speculation.report()
        return json_response(
            {
                "name": "predawn",
                "version": self._version,
                "config": summary(services.config),
                "models": {
                    name: {"snapshot": live[name], "mode": model.mode}
                    for name, model in services.config.models.items()
                },
                "pairs": {
                    name: {
                        "snapshot": live[name],
                        "ttl_ms": pairs.ttl,
                        "speculation": speculation[name],
                    }
                    for name, pairs in services.config.pairs.items()
                },
                "rankers": {
                    name: {
                        "snapshot": live[name],
                        "user_models": services.config.rankers[name].user_models,
                        "pair_models": services.config.rankers[name].pair_models,
                        "tasks": ranker.tasks,
                        "item_features": ranker.item_features,
                    }
                    for name, ranker in services.rankers.items()
                },
                "in_flight": self._gate.inside,
                "metrics": services.metrics.snapshot(),
            }
        )


def summary(config: Config) -> dict[str, object]:
    """The settings, but for what belongs to the machine alone or to a factory: paths, options."""
    private = {"snapshot", "factory", "options", "program"}
    return config.model_dump(
        mode="json",
        exclude={
            "history": {"path"},
            "served_log": {"path"},
            "models": {"__all__": private},
            "pairs": {"__all__": private},
            "rankers": {"__all__": private},
        },
    )
