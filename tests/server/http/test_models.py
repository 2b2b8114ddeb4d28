"""The routes of models: what is asked of the versions, what is told of them, what is refused."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_rig import GOOD, Rig, Script, ScriptedVersions, run

from predawn.server.errors import Conflict, LoadFailed, UnknownName
from predawn.server.http.gate import Phase
from predawn.server.models.snapshots import MANIFEST, write_snapshot

CHANGES = ("load", "swap", "rollback")


@pytest.mark.parametrize(
    ("what", "body", "asked"),
    [
        ("load", b"{}", ("load", None, None)),
        ("load", b'{"models":["fresh"],"version":7}', ("load", ["fresh"], 7)),
        ("swap", b"{}", ("swap", None, None)),
        ("swap", b'{"models":["ctr","fresh"]}', ("swap", ["ctr", "fresh"], None)),
        ("rollback", b'{"models":["ctr"]}', ("rollback", ["ctr"], None)),
    ],
)
def test_a_change_is_passed_on_as_it_was_asked_for(what: str, body: bytes, asked: Any) -> None:
    async def test(it: Rig) -> None:
        assert (await it.client.post(f"/v1/models/{what}", body)).status == 200
        assert it.script.versions.asked == [asked]
        assert it.services.metrics.snapshot()["requests"] == 0

    run(test)


def test_what_was_loaded_is_told_with_how_it_was_tried() -> None:
    async def test(it: Rig) -> None:
        assert (await it.client.post("/v1/models/load", b"{}")).json == {
            "loaded": {
                "fresh": {"version": 5, "took_ms": 12, "warmed_rows": 64},
                "blank": {
                    "version": 5,
                    "took_ms": 13,
                    "warmed_rows": 65,
                    "alignment": {"users": 70, "cosine_before": 0.25, "cosine_after": 0.75},
                },
            },
            "unchanged": ["ctr"],
        }
        assert (await it.client.post("/v1/models/swap", b"{}")).json == {"live": {"fresh": 5}}

    run(test)


def test_models_are_listed_with_what_is_on_disk(tmp_path: Path) -> None:
    tensors = {"a": np.zeros(4, np.float32)}
    paths = [write_snapshot(tmp_path, {"a.safetensors": tensors}, {}) for _ in range(2)]
    (paths[0] / "a.safetensors").unlink()

    async def test(it: Rig) -> None:
        fresh, blank, ctr, _ = (await it.client.get("/v1/models")).json["models"]
        assert fresh.pop("on_disk") == blank["on_disk"] == [
            {"version": 1, "bytes": size(paths[1]), "written_ms": written(paths[0]),
             "problem": "a.safetensors is missing"},
            {"version": 2, "bytes": size(paths[1]), "written_ms": written(paths[1]),
             "problem": ""},
        ]  # fmt: skip
        assert fresh == {
            "name": "fresh", "kind": "user", "mode": "soap", "dim": 2, "live": 3, "staged": 4,
            "previous": 2, "path": str(tmp_path), "loading": True, "error": "",
        }  # fmt: skip
        assert (blank["error"], blank["staged"]) == ("it is torn", None)
        assert [ctr[key] for key in ("kind", "mode", "dim", "on_disk")] == [
            "ranker",
            None,
            None,
            [],
        ]

    run(test, Script(versions=ScriptedVersions(snapshot=str(tmp_path))))


def size(path: Path) -> int:
    return (path / "a.safetensors").stat().st_size


def written(path: Path) -> int:
    return (path / MANIFEST).stat().st_mtime_ns // 1_000_000


def test_a_directory_that_is_gone_is_told_and_the_rest_listed(tmp_path: Path) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.get("/v1/models")
        assert answer.status == 200
        assert "not a directory" in answer.json["models"][0]["error"]

    run(test, Script(versions=ScriptedVersions(snapshot=str(tmp_path / "gone"))))


BAD: list[tuple[bytes, str, str]] = [
    (b"", "", "malformed JSON"),
    (b"[]", "", "must be an object"),
    (b'{"model":["a"]}', "model", "did you mean 'models'?"),
    (b'{"models":[]}', "models", "leave it out"),
    (b'{"models":"a"}', "models", "must be an array"),
    (b'{"models":[7]}', "models[0]", "must be a name"),
    (b'{"models":["a","' + b"x" * 65 + b'"]}', "models[1]", "must be a name"),
]


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize(("body", "field", "reason"), BAD)
def test_a_bad_body_is_400_and_asks_for_nothing(
    what: str, body: bytes, field: str, reason: str
) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post(f"/v1/models/{what}", body)
        assert answer.error[:3] == (400, "bad_request", field)
        assert reason in answer.error[3]
        assert not it.script.versions.asked

    run(test)


@pytest.mark.parametrize("version", [b"0", b"-1", b"1.0", b"true", b"null", b'"2"', b"4294967296"])
def test_a_version_is_a_number_and_only_a_load_has_one(version: bytes) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/models/load", b'{"version":' + version + b"}")
        assert answer.error[:3] == (400, "bad_request", "version")
        answer = await it.client.post("/v1/models/swap", b'{"version":2}')
        assert answer.error[:3] == (400, "bad_request", "version")

    run(test)


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize(
    ("error", "status", "code", "field"),
    [
        (UnknownName("models[0]", "frsh", ["fresh"]), 404, "unknown_name", "models[0]"),
        (Conflict("", "a load is under way"), 409, "conflict", ""),
        (LoadFailed("models.fresh", "it is torn"), 422, "load_failed", "models.fresh"),
    ],
)
def test_a_refusal_has_its_status_field_and_reason(
    what: str, error: Exception, status: int, code: str, field: str
) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post(f"/v1/models/{what}", b"{}")
        assert answer.error[:3] == (status, code, field)
        assert answer.error[3]

    run(test, Script(versions=ScriptedVersions(error=error)))


def test_a_full_or_draining_server_can_still_be_rolled_back() -> None:
    async def test(it: Rig) -> None:
        it.gate.advance(Phase.DRAINING)
        assert (await it.client.post("/v1/rank", GOOD)).status == 503
        for what in CHANGES:
            assert (await it.client.post(f"/v1/models/{what}", b"{}")).status == 200
        assert (await it.client.get("/v1/models")).status == 200

    run(test)


def test_requests_are_answered_while_a_load_is_under_way() -> None:
    answered = asyncio.Event()

    class Slow(ScriptedVersions):
        async def load(self, names: Any, version: Any) -> Any:
            await answered.wait()
            return await super().load(names, version)

    async def test(it: Rig) -> None:
        loading = asyncio.create_task(it.client.post("/v1/models/load", b"{}"))
        assert (await it.client.post("/v1/rank", GOOD)).status == 200
        assert not loading.done()
        answered.set()
        assert (await loading).status == 200

    run(test, Script(versions=Slow()))
