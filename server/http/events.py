"""POST /v1/events: what users saw and did. Acknowledged only once it is committed."""

from aiohttp import web

from predawn.csrc._codec import decode_events
from predawn.server.history import Events
from predawn.server.http.errors import json_response
from predawn.server.http.intake import Call, read_body
from predawn.server.http.services import Services


class EventsRoute:
    """Handler of POST /v1/events."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._http = services.config.http
        self._types = tuple(services.config.history.types)
        self._attributes = tuple(services.config.history.attributes)

    async def __call__(self, call: Call) -> web.Response:
        """CodecError, and what `History.append` raises; then nothing of the body is kept."""
        body = await read_body(call.request, self._http)
        sent = decode_events(body, self._types, self._attributes, self._http.events_limit)
        events = Events(sent.users, sent.items, sent.types, sent.t_ms, sent.attributes)

        accepted = await self._services.history.append(events)

        self._services.metrics.accepted(accepted)
        return json_response({"accepted": accepted})
