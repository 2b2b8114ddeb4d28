"""The routes, and the way of every request through them: id, admission, handler, error, log line.

Invariant: every request gets exactly one reply, JSON but for the text of /metrics, which carries
its id; whatever is raised on the way becomes a reply in `errors.answer`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from predawn.server.http.admin import HintRoute, InvalidateRoute
from predawn.server.http.errors import Fault, answer, no_such_path, reply_of, wrong_method
from predawn.server.http.events import EventsRoute
from predawn.server.http.gate import Gate, Phase
from predawn.server.http.intake import REQUEST_ID_HEADER, Call, RequestIds
from predawn.server.http.logging import AccessLog
from predawn.server.http.models import ModelsRoute
from predawn.server.http.ops import Ops
from predawn.server.http.rank import RankRoute
from predawn.server.http.services import Services

Handler = Callable[[Call], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path. gated: counts against the in-flight limit and is refused while draining;
    counted: a ranking request, for the metrics."""

    methods: tuple[str, ...]
    handler: Handler
    gated: bool = True
    counted: bool = False


def routes(services: Services, gate: Gate) -> dict[str, Route]:
    """Path -> route: the whole surface of the server."""
    ops, models = Ops(services, gate), ModelsRoute(services)
    post, get = ("POST",), ("GET", "HEAD")
    return {
        "/v1/rank": Route(post, RankRoute(services), counted=True),
        "/v1/events": Route(post, EventsRoute(services)),
        "/v1/hint": Route(post, HintRoute(services)),
        "/v1/invalidate": Route(post, InvalidateRoute(services)),
        "/v1/models": Route(get, models.list, gated=False),
        "/v1/models/load": Route(post, models.load, gated=False),
        "/v1/models/swap": Route(post, models.swap, gated=False),
        "/v1/models/rollback": Route(post, models.rollback, gated=False),
        "/livez": Route(get, ops.livez, gated=False),
        "/readyz": Route(get, ops.readyz, gated=False),
        "/metrics": Route(get, ops.metrics, gated=False),
        "/info": Route(get, ops.info, gated=False),
        "/version": Route(get, ops.version, gated=False),
        "/openapi.json": Route(get, ops.openapi, gated=False),
    }


class Door:
    """The handler of all requests of `web_server`."""

    def __init__(self, services: Services, gate: Gate, ids: RequestIds, access: AccessLog) -> None:
        self._clock = services.clock
        self._metrics = services.metrics
        self._gate = gate
        self._ids = ids
        self._access = access
        self._routes = routes(services, gate)

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        """Never raises, unless the client has gone (CancelledError)."""
        call = Call(request, self._ids.of(request), self._clock.monotonic_ns())
        route = self._routes.get(request.path)
        try:
            response = await self._handled(route, call)
        except Exception as error:
            response = answer(error, call.request_id, self._gate.retry_after_s())
        took_ns = self._clock.monotonic_ns() - call.arrived_ns
        if route is not None and route.counted:
            self._metrics.request(call.ranker, response.status, took_ns)
        response.headers[REQUEST_ID_HEADER] = call.request_id
        if self._gate.phase != Phase.SERVING:
            response.force_close()
        self._access.log(call, response.status, took_ns)
        return response

    async def _handled(self, route: Route | None, call: Call) -> web.Response:
        method, path = call.request.method, call.request.path
        if route is None:
            raise no_such_path(path, self._routes)
        if method not in route.methods:
            raise wrong_method(method, path, route.methods)
        if not route.gated:
            return await route.handler(call)
        self._gate.enter()
        try:
            return await route.handler(call)
        finally:
            self._gate.leave()


class JsonProtocol(web.RequestHandler):
    """aiohttp's connection, but for requests that are not HTTP, which are answered in JSON."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The request could not be parsed: it has no headers, hence no id."""
        response = reply_of(Fault(status, "bad_request", message or "not valid HTTP"), "")
        response.force_close()
        return response


class WebServer(web.Server):
    """aiohttp's low-level server with `JsonProtocol` connections: one protocol a call."""

    def __call__(self) -> web.RequestHandler:
        # What is not read within a second after the reply is not read at all.
        return JsonProtocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None turns it off
            lingering_time=1.0,
        )


def web_server(
    services: Services, gate: Gate, ids: RequestIds, access: AccessLog, body_limit: int
) -> WebServer:
    """The server, not yet bound to a port. A client that goes away cancels its handler."""

    def request_of(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=body_limit
        )

    return WebServer(
        Door(services, gate, ids, access), request_factory=request_of, handler_cancellation=True
    )
