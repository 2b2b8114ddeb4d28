"""POST /v1/events on the real event store: acknowledged once committed, or nothing kept."""

import asyncio

import pytest
from http_rig import Rig, run

from predawn.server.errors import Overloaded
from predawn.server.history import Events


def test_events_are_acknowledged_and_then_seen_by_models() -> None:
    async def test(it: Rig) -> None:
        body = b"""{"events": [{"user": "u", "item": 7, "type": "shown", "t_ms": 1000},
            {"user": "u", "item": 8, "types": ["shown", "clicked"], "t_ms": 2000}],
            "users": [{"id": "u", "attributes": {"income": 2.5}}]}"""
        answer = await it.client.post("/v1/events", body)
        assert (answer.status, answer.json) == (200, {"accepted": 2})
        seen = it.history.gather(["u"])
        assert seen.items[0, :3].tolist() == [8, 7, 0]
        assert seen.types[0, :2].tolist() == [3, 1]
        assert seen.attributes.tolist() == [[2.5]]
        assert it.services.metrics.events == 2

    run(test)


def test_events_without_a_time_happen_now() -> None:
    async def test(it: Rig) -> None:
        before = it.services.clock.wall_ms()
        late = b'{"events":[{"user":1,"item":7,"type":"shown","t_ms":%d}]}' % (before - 5_000)
        assert (await it.client.post("/v1/events", late)).status == 200
        now = b'{"events":[{"user":1,"item":8,"type":"shown"}]}'
        assert (await it.client.post("/v1/events", now)).status == 200
        seen = it.history.gather([1])
        assert seen.items[0, :2].tolist() == [8, 7]
        assert seen.ages_ms[0, 1] >= 5_000

    run(test)


BAD = [
    (b'{"events":[{"user":1,"item":7,"type":"shown"},{"user":1,"item":7,"type":"show"}]}',
     "events[1].type", "did you mean 'shown'?"),
    (b'{"events":[{"user":1,"item":7,"type":"shown"}],"users":[{"id":1,"attributes":{"a":1}}]}',
     "users[0].attributes.a", "unknown name"),
    (b'{"events":[{"user":1,"item":7,"type":"shown","t_ms":99999999999999}]}',
     "events[0].t_ms", "more than a day ahead"),
    (b'{"events":[', "events", "malformed JSON"),
    (b"{}", "events", "nothing to record"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "field", "reason"), BAD)
def test_a_bad_body_is_400_and_nothing_of_it_is_kept(body: bytes, field: str, reason: str) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/events", body)
        assert answer.error[:3] == (400, "bad_request", field)
        assert reason in answer.error[3]
        assert it.history.count_users() == 0
        assert it.services.metrics.events == 0

    run(test)


def test_nothing_is_acknowledged_before_the_commit() -> None:
    async def test(it: Rig) -> None:
        committed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        appended = asyncio.Event()

        def append(events: Events) -> "asyncio.Future[int]":
            appended.set()
            return committed

        it.history.append = append  # type: ignore[method-assign]
        body = b'{"events":[{"user":1,"item":7,"type":"shown"}]}'
        call = asyncio.create_task(it.client.post("/v1/events", body))
        await appended.wait()
        await it.client.get("/livez")  # the server has had every chance to answer
        assert not call.done()
        committed.set_result(1)
        assert (await call).json == {"accepted": 1}

    run(test)


def test_a_full_buffer_is_429() -> None:
    async def test(it: Rig) -> None:
        def append(events: Events) -> "asyncio.Future[int]":
            raise Overloaded("history.buffer_limit: 9 events wait to be written", 1.2)

        it.history.append = append  # type: ignore[method-assign]
        body = b'{"events":[{"user":1,"item":7,"type":"shown"}]}'
        answer = await it.client.post("/v1/events", body)
        assert answer.error[:2] == (429, "overloaded")
        assert answer.headers["Retry-After"] == "2"
        assert it.services.metrics.events == 0

    run(test)
