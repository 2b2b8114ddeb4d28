"""The server with its models in a process of their own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from wiring_cases import IN_A_PROCESS, config, of_snapshot, rank, refreshed, trained

from predawn.server.config import Config
from predawn.server.errors import ConfigError, SnapshotError
from predawn.server.request import Source
from predawn.server.wiring import running

OFF_LOOP = {"factory": "factories:off_loop_ranker", "user_models": ["sum"]}
INLINE = {"factory": "factories:sum_ranker", "user_models": ["sum"]}


def child_pids() -> list[int]:
    return [child.pid for child in psutil.Process().children() if child.is_running()]


def test_a_lost_process_costs_no_request(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        wired = config(engine=IN_A_PROCESS, rankers={"ctr": OFF_LOOP, "like": INLINE})
        before = child_pids()
        async with running(wired) as services:
            assert list((await rank(services)).order) == [0, 2, 1]
            await refreshed(services)
            assert (await rank(services, "like")).users["sum"].source is Source.DIRECT
            (pid,) = set(child_pids()) - set(before)
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while services.metrics.engine().restarts == 0:
                    assert (await rank(services, "like")).users["sum"].source is Source.DIRECT
                    assert (await rank(services, "like", 8)).users["sum"].source is Source.DEFAULT
                    await asyncio.sleep(0)
                source = Source.DEFAULT
                while source is Source.DEFAULT:
                    source = (await rank(services, "like", 9)).users["sum"].source
                    await asyncio.sleep(0)
        assert child_pids() == before

    asyncio.run(main())
    assert "was ended by SIGKILL; it is started again" in caplog.text


def test_a_model_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        wrong = {"factory": "factories:wrong_shape"}
        async with running(config(wrong, engine=IN_A_PROCESS)):
            raise AssertionError("started")

    with pytest.raises(ConfigError, match=r"models\.sum: .*expected float32 \[1, 4\]"):
        asyncio.run(main())


def test_a_model_that_turns_out_broken_ends_the_server_that_trusted_its_manifest(
    tmp_path: Path,
) -> None:
    trained(tmp_path, {"prior": np.zeros(5, np.float32)})

    async def main() -> None:
        async with running(Config(**of_snapshot(tmp_path))):
            await asyncio.sleep(30)
            raise AssertionError("the server outlived its models")

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(main())
    assert raised.group_contains(SnapshotError, match="parts do not fit together")


PROGRAM = """
import asyncio, json, sys
import numpy as np
from predawn.server.config import Config
from predawn.server.request import RankRequest
from predawn.server.wiring import running

async def main():
    async with running(Config(**json.loads(sys.argv[1]))) as services:
        async def source():
            deadline_ns = services.clock.monotonic_ns() + 10**9
            items, features = np.arange(3, dtype=np.uint64), np.zeros((3, 2), np.float32)
            request = RankRequest(7, items, features, "", deadline_ns, 0)
            reply = await services.pipeline.rank(request)
            services.pipeline.after_reply(request, reply)
            return reply.users["sum"].source.label

        print(await source(), services.versions.versions()["sum"].live)
        while await source() != "direct":
            await asyncio.sleep(0.05)
        print("direct", "torch" in sys.modules)

asyncio.run(main())
"""


def test_a_server_serves_before_its_models_are_loaded_and_imports_no_torch(tmp_path: Path) -> None:
    settings = json.dumps(of_snapshot(trained(tmp_path)))
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, settings],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout.splitlines() == ["default 1", "direct False"], ended.stderr
