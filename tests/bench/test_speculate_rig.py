"""The traffic and the books of the speculate suite, without a server."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from predawn.bench.load import Answer
from predawn.bench.speculate_rig import MODEL, Served, Traffic, foundation, settings
from predawn.server.config import Config

TRAFFIC = Traffic(rate=100, users=5, items=6)


def body(message: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(message.split(b"\r\n\r\n", 1)[1])
    return found


def test_users_come_back_to_the_items_of_their_pools_and_have_some_in_common() -> None:
    asked = [body(message) for message in TRAFFIC.messages(seed=1)]
    for each in asked:
        assert len(set(each["items"])) == 6
        assert set(each["items"]) <= set(TRAFFIC.pool(each["user"]).tolist())
    by_user = {user: [a["items"] for a in asked if a["user"] == user] for user in range(1, 6)}
    assert all(len(lists) == 4 and lists[0] != lists[1] for lists in by_user.values())
    pools = [set(TRAFFIC.pool(user).tolist()) for user in range(1, 6)]
    assert any(a & b for a, b in itertools.combinations(pools, 2))


def test_items_of_hostile_traffic_are_shown_once() -> None:
    turns = [TRAFFIC.never_again(40, turn) for turn in (0, 1)]
    items = [item for turn in turns for message in turn for item in body(message)["items"]]
    assert len(set(items)) == len(items) == 2 * 40 * 6


def answer(counts: Mapping[str, int], status: int = 200) -> Answer:
    told = orjson.dumps({"sources": {"pairs": {MODEL: counts}}})
    return Answer(0, 0, 0, 2_000_000, status, told, b"")


def test_replies_are_added_up_and_those_that_do_not_are_counted() -> None:
    served = Served(items=6)
    for each in (
        answer({"direct": 3, "neighbour": 1, "default": 2}),
        answer({"direct": 6}),
        answer({"direct": 5}),
        answer({}, status=503),
    ):
        served(each)
    assert (served.wrong, served.unserved) == (1, 1)
    assert served.share("direct") == pytest.approx(14 / 17)
    assert served.share("neighbour", "default") == pytest.approx(3 / 17)
    assert served.quantile_ms(0.5) == 2.0


def test_a_server_of_the_suite_is_configured_with_pairs_or_without(tmp_path: Path) -> None:
    snapshot = foundation(tmp_path / "model", "tiny")
    whole = Config(**settings(tmp_path, 1, {**snapshot, "speculation": {"predictor": "none"}}))
    assert whole.rankers["main"].pair_models == [MODEL]
    assert whole.pairs[MODEL].speculation.predictor == "none"
    assert (tmp_path / "model" / "000001").is_dir()
    assert not Config(**settings(tmp_path, 1, None)).pairs
