"""The fuzzer against the real server, and what it says of one that breaks."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from http_rig import Rig, run

from predawn.bench.fuzz import FuzzReport, fuzz, main


def test_two_thousand_bodies_are_answered_without_a_5xx_in_flat_memory() -> None:
    async def test(it: Rig) -> None:
        report = await fuzz(it.client.url, bodies=2_000, seed=4, connections=8)
        assert report.sound
        assert sum(report.status.values()) == report.bodies == 2_000
        assert report.status["200"] > 20
        assert report.status["400"] > 1_000
        assert 0 < report.rss_mib_after < report.rss_mib_before + 16
        assert it.gate.inside == 0

    run(test)


@pytest.mark.parametrize(
    ("status", "sound"),
    [({"200": 1, "400": 9}, True), ({"200": 1, "503": 1}, False), ({"0": 1, "400": 1}, False)],
)
def test_a_5xx_or_a_missing_answer_is_not_sound(status: dict[str, int], sound: bool) -> None:
    assert FuzzReport(2, status, 1.0, 1.0).sound is sound


def test_the_command_line_prints_one_object_and_fails_on_a_5xx(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def broken(request: web.BaseRequest) -> web.Response:
        if request.path == "/metrics":
            return web.Response(text="predawn_process_resident_memory_bytes 2097152\n")
        await request.read()
        return web.Response(status=500)

    async def drive() -> tuple[int, Any]:
        runner = web.ServerRunner(web.Server(broken))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        code = await asyncio.to_thread(main, ["--bodies", "50", "--url", url, "--connections", "2"])
        await runner.cleanup()
        return code, json.loads(capsys.readouterr().out)

    code, printed = asyncio.run(drive())
    assert code == 1
    assert printed == {
        "bodies": 50, "status": {"500": 50}, "rss_mib_before": 2.0, "rss_mib_after": 2.0
    }  # fmt: skip
