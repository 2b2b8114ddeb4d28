"""A whole server that logs what it served: a row a request, as the reply said, and shown to all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from factories import PairRanker
from http_rig import Client
from prometheus_client.parser import text_string_to_metric_families
from whole_server import with_server

from predawn.server.config import Config
from predawn.server.errors import ConfigError
from predawn.server.http.services import Services
from predawn.server.request import Source
from predawn.server.served_log_read import read_served, served_log


def config_of(path: Path | str, **log: Any) -> Config:
    """A user model, a model of pairs and a ranker of both."""
    return Config.model_validate(
        {
            "http": {"port": 0, "timeout": 10_000},
            "engine": {"isolation": "thread"},
            "history": {"durability": "process"},
            "store": {"dtype": "fp32", "capacity": 64},
            "models": {"sum": {"factory": "factories:counting"}},
            "pairs": {"fm": {"factory": "factories:pair_counting", "capacity": 1000, "fills": []}},
            "rankers": {
                "ctr": {
                    "factory": "factories:pair_ranker",
                    "user_models": ["sum"],
                    "pair_models": ["fm"],
                }
            },
            "served_log": {"path": str(path), "share": 1.0, "values": "fp32", **log},
        }
    )


BODIES = [b'{"user":%b,"items":[21,22,23],"top_k":2}' % user for user in (b"7", b'"seven"')]


async def ask(client: Client, body: bytes) -> Any:
    answer = await client.post("/v1/rank", body)
    assert answer.status == 200, answer.json
    return answer.json


def test_a_logged_row_is_what_the_reply_said(tmp_path: Path) -> None:
    replies: list[Any] = []

    async def use(client: Client, services: Services) -> None:
        replies.extend([await ask(client, body) for body in BODIES])

    with_server(config_of(tmp_path / "log"), use)
    files = served_log(tmp_path / "log")
    rows = read_served(files, "ctr", lambda share: None)
    assert rows.users.tolist() == [7, "seven"]
    assert rows.items.tolist() == [21, 22, 23] * 2
    assert (rows.pair_sources == Source.DEFAULT).all()  # nothing was there on a first request
    assert np.abs(PairRanker().score(rows.batch()) - rows.scores).max() < 1e-6
    table = pq.read_table(files[0].path)
    assert table.column("request_id").to_pylist() == [each["request_id"] for each in replies]
    shown = [[item["id"] for item in each["items"]] for each in replies]
    assert [[21 + at for at in order] for order in table.column("order").to_pylist()] == shown


def test_operators_see_the_log_and_not_where_it_is(tmp_path: Path) -> None:
    async def use(client: Client, services: Services) -> None:
        for body in BODIES:
            await ask(client, body)
        info = (await client.get("/info")).json
        assert info["config"]["served_log"]["share"] == 1.0
        assert "path" not in info["config"]["served_log"]
        assert set(info["metrics"]["served_log"]) == {"rows", "files", "bytes", "files_removed"}
        text = (await client.get("/metrics")).body.decode()
        samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
        names = {(s.name, s.labels.get("outcome")) for s in samples}
        assert ("predawn_served_log_rows_total", "dropped") in names
        assert ("predawn_served_log_bytes", None) in names
        written.append(services)

    written: list[Services] = []
    with_server(config_of(tmp_path), use)
    counts = written[0].metrics.served_log
    assert counts.rows["written"] == 2 and counts.files == 1
    assert counts.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_without_a_path_nothing_is_logged_and_the_ranking_is_the_pipeline_s_own() -> None:
    async def use(client: Client, services: Services) -> None:
        assert type(services.pipeline).__name__ == "Pipeline"
        await ask(client, BODIES[0])
        assert not any(services.metrics.served_log.rows.values())

    with_server(config_of(""), use)


def test_requests_are_answered_when_the_directory_has_become_a_file(tmp_path: Path) -> None:
    place = tmp_path / "log"
    counts: list[Services] = []

    async def use(client: Client, services: Services) -> None:
        place.rmdir()
        place.write_text("")
        replies = [await ask(client, body) for body in BODIES * 3]
        assert not any(reply["degraded"] for reply in replies)
        counts.append(services)

    with_server(config_of(place, rows_per_file=1), use)
    assert counts[0].metrics.served_log.rows == {"written": 0, "dropped": 0, "failed": 6}


def test_a_directory_that_cannot_be_made_is_a_fault_of_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def use(client: Client, services: Services) -> None:
        raise AssertionError("it started")

    with pytest.raises(ConfigError, match=r"served_log.path: .*cannot be made"):
        with_server(config_of(tmp_path / "file" / "log"), use)


def test_the_log_is_what_the_settings_say(tmp_path: Path) -> None:
    config = config_of(tmp_path, size_limit="64MiB", flush_delay="2s").served_log
    assert (config.size_limit, config.flush_delay) == (64 * 2**20, 2_000)
    assert json.loads(config.model_dump_json())["values"] == "fp32"
