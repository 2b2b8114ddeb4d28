"""The engine in a process of its own, a real one: results, faults, loss, restart, versions."""

import asyncio
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import engine_cases as cases
import numpy as np
import pytest
from engine_cases import NOBODY, histories, items, publish, ranking, recipe

from predawn.server.clock import SystemClock
from predawn.server.engine import Computed, Described, ModelVersions
from predawn.server.engine_process import ProcessEngine
from predawn.server.engine_supervisor import Watch
from predawn.server.errors import ConfigError, EngineLost, InferenceError, SnapshotError
from predawn.server.metrics import Metrics
from predawn.server.models.loading import Recipe
from predawn.server.request import Lane, UserBatch, UserId

PATIENT = Watch(hang_ms=20_000, first_pause_s=0.01)
QUICK = Watch(hang_ms=1_000, first_pause_s=0.01)
ALL = {
    "m": recipe("user", "scaled"),
    "fm": recipe("pair", "sums"),
    "r": recipe("ranker", "halves"),
    "inline": recipe("ranker", "inline_halves"),
}


def with_engine(
    use: Callable[[ProcessEngine], Any],
    recipes: dict[str, Recipe],
    metrics: Metrics | None = None,
    watch: Watch = PATIENT,
    gather: Callable[[Sequence[UserId]], UserBatch] = histories,
) -> Any:
    """Runs the coroutine function `use` with a started engine."""

    async def main() -> Any:
        counted = metrics or Metrics(["m"], [])
        engine = ProcessEngine(recipes, NOBODY, gather, SystemClock(), counted, watch=watch)
        engine.start()
        try:
            return await asyncio.wait_for(use(engine), 60)
        finally:
            engine.close()

    return asyncio.run(main())


async def up_again(engine: ProcessEngine, model: str = "m") -> Computed:
    """The first result after a loss."""
    while True:
        try:
            return await engine.embed(model, [1])
        except InferenceError:
            await asyncio.sleep(0)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_users_pairs_and_rankings_come_back_and_are_counted() -> None:
    metrics = Metrics(["m"], [])

    async def use(engine: ProcessEngine) -> None:
        early = asyncio.ensure_future(engine.embed("m", [1, 5]))
        described = await engine.ready()
        assert described == {
            "m": Described(0, 2),
            "fm": Described(0, 2),
            "r": Described(0, 0, ("click",)),
            "inline": Described(0, 0, ("click",), (), True),
        }
        computed = await early
        assert computed.rows[:, 0].tolist() == [1, 5]
        assert computed.rows[0, 1] == engine.pid != os.getpid()
        assert computed.ok.all() and computed.engine_ns > 0
        pairs = await engine.pairs("fm", [items(10, 2), items(20, 1)])
        assert pairs.rows[:, 0].tolist() == [11, 12, 21]
        assert (await engine.score("r", ranking(4))).tolist() == [[0.5]] * 4
        assert engine.versions() == {name: ModelVersions(0) for name in ("m", "fm", "r")}
        assert (metrics.batches[Lane.RANK], metrics.batches[Lane.SPECULATE]) == (1, 1)
        assert metrics.engine_ns[Lane.SPECULATE] > 0 and metrics.batches[Lane.WAIT] == 0
        while not metrics.engine().kept:
            await engine.embed("m", [1])
        assert metrics.engine().kept == {"fm": {"users": 7, "tokens_encoded": 11}}
        pid = engine.pid
        engine.close()
        assert not is_running(pid)
        with pytest.raises(asyncio.CancelledError):
            await engine.embed("m", [1])

    with_engine(use, ALL, metrics)


def test_a_broken_batch_fails_alone_with_name_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    broken = {
        cases.RAISES: "ZeroDivisionError: by zero",
        cases.EXITS: "SystemExit: 3",
        cases.NOTHING: "returned NoneType",
        cases.WIDE: r"returned float32 \[2, 4\], expected float32 \[2, 2\]",
        cases.DOUBLES: "returned float64",
    }

    async def use(engine: ProcessEngine) -> None:
        await engine.ready()
        pid = engine.pid
        for user, reason in broken.items():
            with pytest.raises(InferenceError, match=f"model 'm': {reason}"):
                await engine.embed("m", [user, 2])
            with pytest.raises(InferenceError, match=f"model 'fm': {reason}"):
                await engine.pairs("fm", [items(user, 2)])
            with pytest.raises(InferenceError, match="model 'r': "):
                await engine.score("r", ranking(2, user))
        marked = await engine.embed("m", [cases.NOT_FINITE, 2])
        assert marked.ok.tolist() == [False, True] and "not finite" in marked.error
        with pytest.raises(InferenceError, match="model 'm': ValueError"):
            await engine.embed("m", ["not a number"])
        assert engine.pid == pid

    with caplog.at_level(logging.ERROR):
        with_engine(use, ALL)
    first = caplog.records[0]
    assert "ZeroDivisionError" in first.getMessage() and first.name.endswith("engine_worker")


def test_a_killed_process_fails_what_is_under_way_and_is_started_again_as_it_was(
    tmp_path: Path,
) -> None:
    for turn in (0.0, 1.0):
        publish(tmp_path, turn=turn)
    turned = recipe("user", "turned", tmp_path)
    aligned = Recipe(turned.kind, turned.source, align=True)
    metrics = Metrics(["m"], [])

    async def use(engine: ProcessEngine) -> None:
        await engine.ready()
        publish(tmp_path, turn=2.0)
        await engine.embed("m", list(range(1, 40)))
        loaded = await engine.load("m", None)
        assert loaded.alignment is not None and loaded.alignment.cosine_after > 0.99
        await engine.swap(["m"])
        await engine.load("m", 1)
        versions = engine.versions()
        assert versions["m"] == ModelVersions(3, staged=1, previous=2)
        row = (await engine.embed("m", [5])).rows

        answers: list[int] = []

        async def traffic() -> None:
            while len(answers) < 200:
                answers.append((await engine.embed("m", [1])).snapshot)

        running = [asyncio.ensure_future(traffic()) for _ in range(4)]
        await engine.embed("m", [1])
        os.kill(engine.pid, signal.SIGKILL)
        for end in await asyncio.gather(*running, return_exceptions=True):
            assert isinstance(end, InferenceError)
            assert "the engine's process was ended by SIGKILL" in str(end)
        assert (await up_again(engine)).snapshot == 3
        assert metrics.engine().restarts == 1
        np.testing.assert_allclose((await engine.embed("m", [5])).rows, row, atol=1e-6)
        assert engine.versions() == versions
        while True:  # the version before comes back a little after the live one
            try:
                assert await engine.rollback(["m"]) == {"m": 2}
                break
            except ConfigError:
                await asyncio.sleep(0)
        assert (await engine.embed("m", [1])).snapshot == 2

    with_engine(use, {"m": aligned}, metrics)


@pytest.mark.parametrize(
    ("meta", "after"), [({"scale": 2.0}, 2), ({"dim": 4, "first": cases.WIDE}, None)]
)
def test_a_live_version_that_is_gone_from_the_disk_gives_way_to_the_newest_if_that_fits(
    tmp_path: Path, meta: dict[str, Any], after: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path)

    async def use(engine: ProcessEngine) -> None:
        await engine.ready()
        publish(tmp_path, **meta)
        shutil.rmtree(tmp_path / "000001")
        os.kill(engine.pid, signal.SIGKILL)
        if after is not None:
            assert (await up_again(engine)).snapshot == after
            assert engine.versions() == {"m": ModelVersions(after)}
            return
        while "does not do what the lost one did" not in caplog.text:
            with pytest.raises(EngineLost):
                await engine.embed("m", [1])
            await asyncio.sleep(0)

    with_engine(use, {"m": recipe("user", "scaled", tmp_path)})


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (cases.DIES, "was ended by SIGKILL"),
        (cases.HANGS, "ran one batch for more than 1000 ms and was killed"),
        (cases.STUCK, r"said nothing for 1\.5 s"),
    ],
)
def test_a_model_that_takes_the_process_with_it_or_hangs_is_outlived(
    user: int, reason: str
) -> None:
    async def use(engine: ProcessEngine) -> None:
        await engine.ready()
        before = engine.pid
        lost = asyncio.ensure_future(engine.embed("m", [user]))
        await asyncio.sleep(0)
        behind = asyncio.ensure_future(engine.embed("m", [2]))
        with pytest.raises(EngineLost, match=f"model 'm': the engine's process {reason}"):
            await lost
        with pytest.raises(EngineLost, match=reason):
            await behind
        with pytest.raises(EngineLost, match=reason):
            await engine.embed("m", [3])
        later = await engine.pairs("fm", [items(10, 1)])  # waits for the next process
        assert later.rows[0, 0] == 11
        assert (await up_again(engine)).ok.all()
        assert engine.pid != before and not is_running(before)

    with_engine(use, ALL, watch=QUICK)


def test_versions_are_swapped_under_traffic_between_two_batches(tmp_path: Path) -> None:
    publish(tmp_path, scale=1.0)

    async def use(engine: ProcessEngine) -> None:
        await engine.ready()
        computed: list[Computed] = []
        stopping = asyncio.Event()

        async def traffic() -> None:
            while not stopping.is_set():
                computed.append(await engine.embed("m", [1, 2, 3]))

        running = asyncio.ensure_future(traffic())
        publish(tmp_path, scale=2.0)
        assert (await engine.load("m", None)).version == 2
        assert engine.versions() == {"m": ModelVersions(1, 2)}
        for _ in range(10):
            assert await engine.swap(["m"]) == {"m": 2}
            assert (await engine.embed("m", [1])).snapshot == 2
            assert await engine.rollback(["m"]) == {"m": 1}
            assert (await engine.embed("m", [1])).snapshot == 1
        assert engine.versions() == {"m": ModelVersions(1, 2)}
        await engine.discard(["m"])
        assert engine.versions() == {"m": ModelVersions(1)}
        stopping.set()
        await running
        assert computed
        for each in computed:
            assert each.rows[:, 0].tolist() == [each.snapshot * user for user in (1, 2, 3)]
        with pytest.raises(SnapshotError, match="has no version 5"):
            await engine.load("m", 5)
        publish(tmp_path, first=cases.EXITS)
        with pytest.raises(InferenceError, match="version 3 failed on recent batches"):
            await engine.load("m", None)
        with pytest.raises(ConfigError, match="m: has no staged version"):
            await engine.swap(["m"])

    with_engine(use, {"m": recipe("user", "scaled", tmp_path)})


@pytest.mark.parametrize(
    ("made", "error", "reason"),
    [
        (recipe("user", "unable"), ConfigError, r"models\.m\.factory: .*no such weights"),
        (recipe("user", "scaled", "nowhere"), SnapshotError, "nowhere: is not a directory"),
        (recipe("user", "dies"), ConfigError, r"engine\.isolation: .*SIGKILL while it loaded"),
    ],
)
def test_models_that_cannot_be_made_end_the_start(
    made: Recipe, error: type[Exception], reason: str
) -> None:
    async def use(engine: ProcessEngine) -> None:
        with pytest.raises(error, match=reason):
            await engine.ready()

    with_engine(use, {"m": made})


def test_a_cancelled_batch_is_given_up() -> None:
    gate, gathered = cases.Gate(), list[UserId]()

    def gather(users: Sequence[UserId]) -> UserBatch:
        gate.pass_through()
        gathered.extend(users)
        return histories(users)

    async def use(engine: ProcessEngine) -> None:
        await engine.ready()
        batches = [asyncio.ensure_future(engine.embed("m", [user])) for user in (1, 2, 3)]
        assert await asyncio.to_thread(gate.reached.wait, 10)
        for each in batches[:2]:
            each.cancel()
        await asyncio.sleep(0)
        gate.open()
        assert (await batches[2]).rows[0, 0] == 3
        assert gathered == [1, 3]

    with_engine(use, ALL, gather=gather)


def test_the_process_ends_with_its_parent_and_lives_through_ctrl_c() -> None:
    program = textwrap.dedent("""
        import asyncio, sys
        from engine_cases import NOBODY, STUCK, histories, recipe
        from predawn.server.clock import SystemClock
        from predawn.server.engine_process import ProcessEngine
        from predawn.server.metrics import Metrics

        async def main():
            recipes = {"m": recipe("user", "scaled")}
            engine = ProcessEngine(recipes, NOBODY, histories, SystemClock(), Metrics(["m"], []))
            engine.start()
            await engine.ready()
            print(engine.pid, "torch" in sys.modules, flush=True)
            await engine.embed("m", [STUCK])

        asyncio.run(main())
    """)
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    ) as parent:
        assert parent.stdout is not None
        pid, has_torch = parent.stdout.readline().split()
        assert has_torch == b"False"
        child = int(pid)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child, number)
        assert os.getpgid(child) != os.getpgid(parent.pid)
        assert is_running(child)
        parent.kill()
    try:
        gone = os.pidfd_open(child)
    except ProcessLookupError:
        return
    assert select.select([gone], [], [], 10)[0]
    os.close(gone)
