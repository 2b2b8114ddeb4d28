"""POST /v1/rank: what the pipeline is asked, and what comes back."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import uvloop
from http_rig import GOOD, RANKERS, Rig, Script, StaticRanker, last_is_best, rig, run

from predawn.server.http.rank import columns_of
from predawn.server.request import PairRows, RankReply, RankRequest, Source, UserRow


def test_the_reply_has_items_sources_and_the_rest() -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/rank", b'{"user":"u1","items":["a","b","c"],"top_k":2}')
        assert answer.status == 200
        reply = answer.json
        took_us = reply.pop("took_us")
        assert took_us >= 0
        assert reply == {
            "ranker": "ctr",
            "items": [{"id": "c", "score": 3}, {"id": "b", "score": 2}],
            "sources": {
                "user": {
                    "fresh": {"source": "direct", "age_ms": 1200},
                    "blank": {"source": "default", "age_ms": None},
                },
                "pairs": {},
            },
            "degraded": True,
            "request_id": answer.headers["x-request-id"],
        }
        assert list(answer.json) == [
            "ranker", "items", "sources", "degraded", "took_us", "request_id"
        ]  # fmt: skip

    run(test)


def test_explain_adds_snapshots_reasons_and_task_scores_in_the_order_of_items() -> None:
    async def test(it: Rig) -> None:
        body = b'{"user":1,"items":[10,20,30],"top_k":2,"explain":true}'
        reply = (await it.client.post("/v1/rank", body)).json
        assert reply["explain"] == {
            "models": {
                "fresh": {"snapshot": 7, "reason": ""},
                "blank": {"snapshot": 0, "reason": "failed: boom"},
            },
            "tasks": {"click": [3.0, 2.0], "like": [1.5, 1.0]},
            "pairs": {},
        }

    run(test)


def test_pairs_are_counted_by_source_and_explained_in_the_order_of_items() -> None:
    sources = np.array([Source.DIRECT, Source.DEFAULT, Source.DIRECT], dtype=np.uint8)
    ages_ms = np.array([5, -1, 70_000], dtype=np.int64)

    async def with_pairs(request: RankRequest) -> RankReply:
        reply = await last_is_best(request)
        rows = np.zeros((3, 2), dtype=np.float32)
        reply.pairs = {"fm": PairRows(rows, sources, ages_ms, [2, 0, 0, 0, 0, 0, 1, 0])}
        return reply

    async def test(it: Rig) -> None:
        body = b'{"user":1,"items":[10,20,30],"top_k":2,"explain":true}'
        reply = (await it.client.post("/v1/rank", body)).json
        assert reply["sources"]["pairs"] == {
            "fm": {"direct": 2, "user_mean": 0, "recent": 0, "neighbour": 0, "default": 1}
        }
        assert [item["id"] for item in reply["items"]] == [30, 20]
        assert reply["explain"]["pairs"] == {
            "fm": {"sources": ["direct", "default"], "ages_ms": [70_000, None]}
        }

    run(test, Script(with_pairs))


def test_the_pipeline_is_asked_what_the_body_says() -> None:
    async def test(it: Rig) -> None:
        body = b"""{"user": 5, "ranker": "ctr", "top_k": 9, "timeout_ms": 250, "explain": true,
            "items": [{"id": 7, "features": {"age": 2, "price": 1}}, 8]}"""
        await it.client.post("/v1/rank", body, x_request_id="r1")
        before = it.services.clock.monotonic_ns()
        (asked,) = it.script.asked
        assert (asked.user, asked.ranker, asked.explain) == (5, "ctr", True)
        assert (asked.top_k, asked.request_id) == (2, "r1")  # no more than there are
        assert asked.item_hashes.tolist() == [7, 8]
        assert asked.item_features.tolist() == [[1, 2], [0, 0]]
        assert asked.item_features.flags.c_contiguous
        assert asked.deadline_ns < before + 250_000_000

    run(test)


@pytest.mark.parametrize(
    ("body_ms", "header", "expected_ms"),
    [("", None, 5000), (",'timeout_ms':70", None, 70), ("", "80.5", 80.5),
     (",'timeout_ms':70", "80", 70), (",'timeout_ms':90", "80", 80)],
)  # fmt: skip
def test_the_shorter_deadline_counts_from_arrival(
    body_ms: str, header: str | None, expected_ms: float
) -> None:
    async def test(it: Rig) -> None:
        body = ('{"user":1,"items":[1]' + body_ms.replace("'", '"') + "}").encode()
        headers = {"x_request_timeout_ms": header} if header else {}
        answer = await it.client.post("/v1/rank", body, x_predawn_timing="1", **headers)
        received_ns = timing_of(answer.headers["x-predawn-timing"])["recv_ns"]
        assert it.script.asked[0].deadline_ns - received_ns == expected_ms * 1e6

    run(test)


BAD_TIMES = [
    ("0", "more than 0"),
    ("-1", "more than 0"),
    ("nan", "more than 0"),
    ("inf", "more than 0"),
    ("x", "not a number of ms"),
    ("1e9", "http.timeout_limit"),
]


@pytest.mark.parametrize(("header", "reason"), BAD_TIMES)
def test_a_bad_timeout_header_is_400(header: str, reason: str) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/rank", GOOD, x_request_timeout_ms=header)
        assert answer.error[:3] == (400, "bad_request", "x-request-timeout-ms")
        assert reason in answer.error[3]
        assert not it.script.asked

    run(test)


def test_a_timeout_over_the_limit_is_400() -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/rank", b'{"user":1,"items":[1],"timeout_ms":10001}')
        assert answer.error[:3] == (400, "bad_request", "timeout_ms")
        assert "at most 10000 ms" in answer.error[3]

    run(test)


def test_an_unknown_ranker_is_404_with_the_nearest() -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/rank", b'{"user":1,"items":[1],"ranker":"wach"}')
        assert answer.error == (
            404, "unknown_name", "ranker", "unknown name 'wach'; did you mean 'watch'?"
        )  # fmt: skip
        assert not it.script.asked
        assert it.services.metrics.requests == {("unknown", 404): 1}

    run(test)


def test_a_bad_body_is_400_with_field_and_reason_and_asks_nothing() -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/rank", b'{"user":1,"items":[1,2,1]}')
        assert answer.error == (400, "bad_request", "items[2]", "the same item as items[0]")
        assert not it.script.asked
        assert not it.script.after

    run(test)


def test_more_items_than_the_limit_are_400() -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/rank", b'{"user":1,"items":[1,2,3]}')
        assert answer.error[:3] == (400, "bad_request", "items")
        assert "more than 2 items (http.items_limit)" in answer.error[3]

    run(test, items_limit=2)


@pytest.mark.parametrize(
    ("ranker", "expected"), [("ctr", [[1.0, 2.0], [0, 0]]), ("watch", [[2.0, 3.0], [0, 0]])]
)
def test_a_ranker_gets_its_own_features_in_its_own_order(
    ranker: str, expected: list[list[float]]
) -> None:
    async def test(it: Rig) -> None:
        sent = {"ctr": {"price": 1, "age": 2}, "watch": {"duration_s": 3, "age": 2}}[ranker]
        items = [{"id": 1, "features": sent}, 2]
        body = json.dumps({"user": 1, "ranker": ranker, "items": items})
        assert (await it.client.post("/v1/rank", body.encode())).status == 200
        assert it.script.asked[0].item_features.tolist() == expected

    run(test)


def test_a_feature_of_another_ranker_is_400() -> None:
    async def test(it: Rig) -> None:
        body = b'{"user":1,"ranker":"watch","items":[2,{"id":1,"features":{"price":1}}]}'
        answer = await it.client.post("/v1/rank", body)
        assert answer.error[:3] == (400, "bad_request", "items[1].features.price")
        assert answer.error[3] == "ranker 'watch' does not take this feature"

    run(test)


def test_columns_are_none_where_a_ranker_takes_all_in_order() -> None:
    one = StaticRanker(("t",), ("a", "b"))
    assert columns_of(("a", "b"), one).own is None
    turned = columns_of(("b", "a", "c"), one)
    assert turned.own is not None
    assert (turned.own.tolist(), turned.others.tolist()) == ([1, 0], [2])
    assert columns_of((), StaticRanker(("t",), ())).own is None


def timing_of(header: str) -> dict[str, int]:
    return {name: int(ns) for name, ns in (part.split("=") for part in header.split(","))}


def test_the_timing_header_has_the_stages_and_both_ends() -> None:
    async def test(it: Rig) -> None:
        before = it.services.clock.monotonic_ns()
        answer = await it.client.post("/v1/rank", GOOD, x_predawn_timing="1")
        timing = timing_of(answer.headers["x-predawn-timing"])
        assert list(timing) == [
            "recv_ns", "decode", "lookup", "wait", "rank", "encode", "send_ns"
        ]  # fmt: skip
        assert (timing["lookup"], timing["wait"], timing["rank"]) == (11, 22, 33)
        assert before < timing["recv_ns"] < timing["send_ns"] < it.services.clock.monotonic_ns()
        assert timing["decode"] + timing["encode"] <= timing["send_ns"] - timing["recv_ns"]
        assert "x-predawn-timing" not in (await it.client.post("/v1/rank", GOOD)).headers

    run(test)


def test_requests_and_stages_are_counted() -> None:
    async def test(it: Rig) -> None:
        await it.client.post("/v1/rank", GOOD)
        await it.client.post("/v1/rank", b"{")
        metrics = it.services.metrics
        assert metrics.requests == {("ctr", 200): 1, ("unknown", 400): 1}
        assert metrics.request_ns.count == 2
        assert metrics.stages["decode"].count == metrics.stages["encode"].count == 1

    run(test)


class Waiting(Script):
    """Will not let the server's loop go on after a reply until the client has that reply."""

    def __init__(self) -> None:
        super().__init__(last_is_best)
        self.received = threading.Event()
        self.in_time: list[bool] = []

    def after_reply(self, request: RankRequest, reply: RankReply) -> None:
        self.in_time.append(self.received.wait(10))


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_refreshes_are_scheduled_after_the_reply_is_on_its_way(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    script = Waiting()
    ready, done = threading.Event(), threading.Event()
    ports: list[int] = []

    async def server() -> None:
        async with rig(script) as it:
            ports.append(it.port)
            ready.set()
            await asyncio.to_thread(done.wait)

    def serve() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(server())

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)

    async def client() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        head = f"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: {len(GOOD)}\r\n\r\n"
        writer.write(head.encode() + GOOD)
        line = await reader.readline()
        script.received.set()
        writer.close()
        return line

    assert asyncio.run(client()) == b"HTTP/1.1 200 OK\r\n"
    done.set()
    thread.join()
    assert script.in_time == [True]


def test_a_failing_after_reply_does_not_touch_the_reply() -> None:
    class Failing(Script):
        def after_reply(self, request: RankRequest, reply: RankReply) -> None:
            super().after_reply(request, reply)
            raise RuntimeError("no refreshes today")

    async def test(it: Rig) -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        for _ in range(2):
            assert (await it.client.post("/v1/rank", GOOD)).status == 200
        assert len(told) == len(it.script.after) == 2

    run(test, Failing())


def test_scores_that_are_no_numbers_are_a_500_and_no_refresh() -> None:
    async def spoiled(request: RankRequest) -> RankReply:
        row = UserRow(Source.DIRECT, 1, np.zeros(2, np.float32))
        scores = np.array([1, np.nan, 2], np.float32)
        return RankReply(np.arange(3, dtype=np.int64), scores, {"fresh": row}, False)

    async def test(it: Rig) -> None:
        assert (await it.client.post("/v1/rank", GOOD)).error[:2] == (500, "internal")
        assert not it.script.after

    run(test, Script(spoiled))


def test_the_first_ranker_is_the_default() -> None:
    assert next(iter(RANKERS)) == "ctr"

    async def test(it: Rig) -> None:
        assert (await it.client.post("/v1/rank", GOOD)).json["ranker"] == "ctr"

    run(test)
