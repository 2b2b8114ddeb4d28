"""Shared bodies have what they say."""

import orjson

from predawn.bench import bodies


def test_rank_body_asks_for_all_its_different_items() -> None:
    body = orjson.loads(bodies.rank_body(100, user="u1", ranker="r"))
    assert len(set(body["items"])) == 100 == body["top_k"]
    assert (body["user"], body["ranker"]) == ("u1", "r")


def test_events_body_has_one_event_per_item() -> None:
    events = orjson.loads(bodies.events_body(1, [5, 6], "clicked", 99))["events"]
    assert events[1] == {"user": 1, "item": 6, "type": "clicked", "t_ms": 99}
    assert len(events) == 2
