"""Routes, admission and replies of the whole HTTP surface, over real sockets."""

import asyncio
import gzip
import json
import logging
from collections.abc import Awaitable, Callable

import pytest
from http_rig import GOOD, Rig, Script, last_is_best, rig, run

from predawn.server.errors import DeadlineExceeded, InferenceError, Overloaded, Unavailable
from predawn.server.http.gate import Phase
from predawn.server.request import RankReply, RankRequest


def failing(error: Exception) -> Script:
    async def fail(request: RankRequest) -> RankReply:
        raise error

    return Script(fail)


def test_unknown_path_is_404_with_the_nearest() -> None:
    async def test(it: Rig) -> None:
        status, code, _, reason = (await it.client.post("/v1/ranks", GOOD)).error
        assert (status, code) == (404, "not_found")
        assert reason == "no path '/v1/ranks'; did you mean /v1/rank?"
        assert (await it.client.get("/" + "x" * 2000)).error[0] == 404

    run(test)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/rank", "POST"),
        ("PUT", "/v1/events", "POST"),
        ("DELETE", "/livez", "GET, HEAD"),
        ("OPTIONS", "/v1/hint", "POST"),
    ],
)
def test_wrong_method_is_405_with_allow(method: str, path: str, allow: str) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.send(method, path)
        assert answer.error[:2] == (405, "method_not_allowed")
        assert answer.headers["Allow"] == allow

    run(test)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "text/json"])
def test_wrong_content_type_is_415(kind: str) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/rank", GOOD, content_type=kind)
        assert answer.error[:2] == (415, "unsupported_media_type")
        assert kind in answer.error[3]
        assert not it.script.asked

    run(test)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/octet-stream"])
def test_json_and_octet_stream_are_accepted(kind: str) -> None:
    async def test(it: Rig) -> None:
        assert (await it.client.post("/v1/rank", GOOD, content_type=kind)).status == 200

    run(test)


async def exchange(port: int, raw: bytes) -> bytes:
    """What the server says to `raw` bytes on a connection, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


def test_absent_content_type_is_accepted() -> None:
    async def test(it: Rig) -> None:
        head = f"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: {len(GOOD)}\r\n"
        reply = await exchange(it.port, head.encode() + b"connection: close\r\n\r\n" + GOOD)
        assert reply.startswith(b"HTTP/1.1 200")

    run(test)


@pytest.mark.parametrize("chunked", [False, True])
def test_body_over_the_limit_is_413(chunked: bool) -> None:
    async def test(it: Rig) -> None:
        body = GOOD + b" " * 2000

        async def pieces() -> object:
            yield body[:500]
            yield body[500:]

        url = it.client.url + "/v1/rank"
        sent = {"content-type": "application/json"}
        data = pieces() if chunked else body
        async with it.client.session.post(url, data=data, headers=sent) as reply:
            assert reply.status == 413
            error = (await reply.json())["error"]
        assert error["code"] == "body_too_large"
        assert "http.body_limit" in error["reason"]
        assert not it.script.asked

    run(test, body_limit=1000)


def test_compressed_bodies_count_by_their_real_size() -> None:
    async def test(it: Rig) -> None:
        small, large = gzip.compress(GOOD), gzip.compress(GOOD + b" " * 100_000)
        assert (await it.client.post("/v1/rank", small, content_encoding="gzip")).status == 200
        answer = await it.client.post("/v1/rank", large, content_encoding="gzip")
        assert answer.error[:2] == (413, "body_too_large")
        assert (await it.client.post("/v1/rank", GOOD, content_encoding="gzip")).status == 400

    run(test, body_limit=1000)


def test_a_body_that_never_arrives_is_given_up() -> None:
    async def test(it: Rig) -> None:
        head = b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
        reply = await exchange(it.port, head)
        assert reply.startswith(b"HTTP/1.1 408")
        assert b"http.timeout_limit" in reply
        assert it.gate.inside == 0

    run(test, timeout=20, timeout_limit=50)


def test_bytes_that_are_not_http_are_400_in_json() -> None:
    async def test(it: Rig) -> None:
        head, _, body = (await exchange(it.port, b"\x16\x03\x01 hello\r\n\r\n")).partition(
            b"\r\n\r\n"
        )
        assert head.startswith(b"HTTP/1.0 400") or head.startswith(b"HTTP/1.1 400")
        assert b"application/json" in head
        assert json.loads(body)["error"]["code"] == "bad_request"

    run(test)


ENDINGS: list[tuple[Exception, int, str]] = [
    (Overloaded("the wait lane is full", 1.5), 429, "overloaded"),
    (Unavailable("starting"), 503, "unavailable"),
    (DeadlineExceeded("late"), 504, "deadline_exceeded"),
    (InferenceError("ctr", "boom"), 500, "inference_failed"),
    (RuntimeError("secret detail"), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "code"), ENDINGS)
def test_what_the_pipeline_raises_becomes_a_status(
    error: Exception, status: int, code: str
) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/rank", GOOD)
        assert answer.error[:2] == (status, code)
        assert "secret" not in answer.error[3]
        assert ("Retry-After" in answer.headers) == (status in (429, 503))
        assert it.services.metrics.requests == {("ctr", status): 1}
        assert not it.script.after
        assert it.gate.inside == 0

    logging.getLogger("predawn.http").disabled = True
    try:
        run(test, failing(error))
    finally:
        logging.getLogger("predawn.http").disabled = False


class Held:
    """A pipeline that holds every request until told."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def rank(self, request: RankRequest) -> RankReply:
        self.arrived.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await last_is_best(request)


def run_held(test: Callable[[Rig, Held], Awaitable[None]], **http: int) -> None:
    async def main() -> None:
        held = Held()
        async with rig(Script(held.rank), **http) as it:
            await test(it, held)

    asyncio.run(main())


def test_above_the_in_flight_limit_requests_are_429_and_health_is_not() -> None:
    async def test(it: Rig, held: Held) -> None:
        first = asyncio.create_task(it.client.post("/v1/rank", GOOD))
        await held.arrived.wait()
        refused = await it.client.post("/v1/rank", GOOD)
        assert refused.error[:2] == (429, "overloaded")
        assert 1 <= int(refused.headers["Retry-After"]) <= 3
        assert (await it.client.post("/v1/hint", b'{"users":[1]}')).status == 429
        assert (await it.client.get("/livez")).status == 200
        assert (await it.client.get("/metrics")).status == 200
        held.release.set()
        assert (await first).status == 200
        assert (await it.client.post("/v1/rank", GOOD)).status == 200
        assert it.services.metrics.requests == {("ctr", 200): 2, ("unknown", 429): 1}

    run_held(test, in_flight_limit=1)


def test_a_leaving_server_is_not_ready_but_still_answers() -> None:
    async def test(it: Rig) -> None:
        assert (await it.client.get("/readyz")).status == 200
        it.gate.advance(Phase.LEAVING)
        ready = await it.client.get("/readyz")
        assert (ready.status, ready.json) == (503, {"status": "leaving"})
        answer = await it.client.post("/v1/rank", GOOD)
        assert (answer.status, answer.headers["Connection"]) == (200, "close")

    run(test)


def test_a_draining_server_refuses_and_closes() -> None:
    async def test(it: Rig) -> None:
        it.gate.advance(Phase.DRAINING)
        for path in ("/v1/rank", "/v1/events", "/v1/hint", "/v1/invalidate"):
            answer = await it.client.post(path, GOOD)
            assert answer.error[:2] == (503, "unavailable")
            assert answer.headers["Connection"] == "close"
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await it.client.get("/livez")).status == 200
        assert not it.script.asked

    run(test)


def test_a_client_that_goes_away_is_forgotten() -> None:
    async def test(it: Rig, held: Held) -> None:
        call = asyncio.create_task(it.client.post("/v1/rank", GOOD))
        await held.arrived.wait()
        call.cancel()
        await asyncio.wait_for(held.cancelled.wait(), 5)
        await asyncio.wait_for(it.gate.empty(), 5)
        assert not it.script.after

    run_held(test)


def test_sane_request_ids_are_echoed_and_others_replaced() -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/rank", GOOD, x_request_id="req-1/a.b")
        assert answer.headers["x-request-id"] == answer.json["request_id"] == "req-1/a.b"
        for strange in ("a b", "x" * 129, "<script>"):
            made = (await it.client.post("/v1/rank", GOOD, x_request_id=strange)).json["request_id"]
            assert made.startswith("t-")
        ids = {(await it.client.get("/livez")).headers["x-request-id"] for _ in range(3)}
        assert len(ids) == 3

    run(test)


def test_head_has_the_headers_of_get() -> None:
    async def test(it: Rig) -> None:
        head = await it.client.send("HEAD", "/livez")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Type"].startswith("application/json")

    run(test)


def test_a_share_of_requests_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with rig(access=0.5) as it:
            for _ in range(40):
                await it.client.get("/livez")

    with caplog.at_level(logging.INFO, "predawn.access"):
        asyncio.run(main())
    lines = [record for record in caplog.records if record.name == "predawn.access"]
    assert 5 < len(lines) < 35
    fields = lines[0].__dict__["fields"]
    assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/livez", 200)
