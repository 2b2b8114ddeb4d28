"""The engine in threads: results on the loop, lanes, cancellation, a hung model, versions."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import engine_cases as cases
import numpy as np
import pytest
from engine_cases import CALLS, NOBODY, Gate, histories, items, publish, ranking, recipe

from predawn.server.clock import SystemClock
from predawn.server.engine import Computed, ModelVersions
from predawn.server.engine_thread import ThreadEngine
from predawn.server.errors import ConfigError, InferenceError, SnapshotError
from predawn.server.metrics import Metrics
from predawn.server.models.loading import Recipe
from predawn.server.request import F32, Lane, RankBatch, UserBatch, UserId

SCALED = recipe("user", "scaled")


def with_engine(
    use: Callable[[ThreadEngine], Any],
    metrics: Metrics | None = None,
    gather: Callable[[Sequence[UserId]], UserBatch] = histories,
    **recipes: Recipe,
) -> Any:
    """Runs the coroutine function `use` with a started engine."""

    async def main() -> Any:
        counted = metrics or Metrics(["m"], [])
        engine = ThreadEngine(recipes, NOBODY, gather, SystemClock(), counted)
        engine.start()
        try:
            assert await engine.ready() is await engine.ready()
            return await asyncio.wait_for(use(engine), 10)
        finally:
            engine.close()

    return asyncio.run(main())


async def reached(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.reached.wait, 10)


def test_a_batch_comes_back_with_version_and_time(tmp_path: Path) -> None:
    version = publish(tmp_path, scale=2.0)

    async def use(engine: ThreadEngine) -> None:
        computed = await engine.embed("m", [1, 5])
        assert computed.rows[:, 0].tolist() == [2, 10]
        assert (computed.snapshot, computed.error) == (version, "")
        assert computed.engine_ns > 0
        assert engine.busy_since_ns == 0

    with_engine(use, m=recipe("user", "scaled", tmp_path))


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (cases.RAISES, "ZeroDivisionError: by zero"),
        (cases.EXITS, "SystemExit: 3"),
        (cases.NOTHING, "returned NoneType"),
        (cases.WIDE, r"returned float32 \[2, 4\], expected float32 \[2, 2\]"),
    ],
)
def test_a_broken_batch_fails_with_name_and_reason_and_nothing_else(user: int, reason: str) -> None:
    async def use(engine: ThreadEngine) -> None:
        with pytest.raises(InferenceError, match=f"model 'm': {reason}"):
            await engine.embed("m", [user, 2])
        with pytest.raises(InferenceError, match=f"model 'fm': {reason}"):
            await engine.pairs("fm", [items(user, 2)])
        with pytest.raises(InferenceError, match="model 'r': "):
            await engine.score("r", ranking(2, user))
        assert (await engine.embed("m", [3])).rows[0, 0] == 3

    with_engine(use, m=SCALED, fm=recipe("pair", "sums"), r=recipe("ranker", "halves"))


def test_histories_that_cannot_be_read_fail_the_batch() -> None:
    async def use(engine: ThreadEngine) -> None:
        with pytest.raises(InferenceError, match="model 'm': ValueError"):
            await engine.embed("m", ["not a number"])

    with_engine(use, m=SCALED)


def test_rankings_go_before_users_and_users_before_pairs_and_are_counted() -> None:
    gate, order, metrics = Gate(), list[str](), Metrics(["m"], [])

    def gather(users: Sequence[UserId]) -> UserBatch:
        gate.pass_through()
        order.append(f"user {users[0]}")
        return histories(users)

    def score(batch: RankBatch) -> F32:
        order.append("rank")
        return np.zeros((3, 1), dtype=np.float32)

    CALLS["ranker"] = score

    async def use(engine: ThreadEngine) -> None:
        first = asyncio.ensure_future(engine.embed("m", [1]))
        await reached(gate)
        assert engine.busy_since_ns > 0
        pairs = asyncio.ensure_future(engine.pairs("fm", [items(3, 2)]))
        await asyncio.sleep(0)
        users = asyncio.ensure_future(engine.embed("m", [2]))
        await asyncio.sleep(0)
        scores = asyncio.ensure_future(engine.score("r", ranking()))
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, users, pairs, scores)
        assert order == ["user 1", "rank", "user 2", "user 3"]

    with_engine(
        use,
        metrics,
        gather,
        m=SCALED,
        fm=recipe("pair", "sums"),
        r=recipe("ranker", "called", name="ranker"),
    )
    assert (metrics.batches[Lane.RANK], metrics.batches[Lane.SPECULATE]) == (1, 1)
    assert metrics.engine_ns[Lane.RANK] > 0 and metrics.engine_ns[Lane.SPECULATE] > 0
    assert metrics.batches[Lane.WAIT] == 0  # the batcher's to count
    assert metrics.engine().kept == {"fm": {"users": 7, "tokens_encoded": 11}}
    assert (metrics.engine().restarts, metrics.engine().compiles) == (0, 0)


def test_a_hung_model_blocks_neither_the_loop_nor_close() -> None:
    gate = Gate()

    def gather(users: Sequence[UserId]) -> UserBatch:
        gate.pass_through()
        return histories(users)

    async def use(engine: ThreadEngine) -> None:
        hung = asyncio.ensure_future(engine.embed("m", [1]))
        queued = asyncio.ensure_future(engine.embed("m", [2]))
        await reached(gate)
        assert not hung.done()
        engine.close()
        await asyncio.wait([hung, queued])
        assert hung.cancelled() and queued.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await engine.embed("m", [3])

    with_engine(use, None, gather, m=SCALED)
    gate.open()


def test_a_cancelled_batch_that_has_not_begun_is_not_computed() -> None:
    gate, seen = Gate(), list[UserId]()

    def gather(users: Sequence[UserId]) -> UserBatch:
        gate.pass_through()
        seen.extend(users)
        return histories(users)

    async def use(engine: ThreadEngine) -> None:
        batches = [asyncio.ensure_future(engine.embed("m", [user])) for user in (1, 2, 3)]
        await reached(gate)
        batches[1].cancel()
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(batches[0], batches[2])
        assert seen == [1, 3]

    with_engine(use, None, gather, m=SCALED)


def test_versions_are_swapped_under_traffic_between_two_batches(tmp_path: Path) -> None:
    for scale in (1.0, 2.0):
        publish(tmp_path, scale=scale)
    before = Path(tmp_path, "000002").rename(tmp_path / "aside")

    async def use(engine: ThreadEngine) -> None:
        computed: list[Computed] = []
        stopping = asyncio.Event()

        async def traffic() -> None:
            while not stopping.is_set():
                computed.append(await engine.embed("m", [1, 2, 3]))

        running = asyncio.ensure_future(traffic())
        await engine.embed("m", [1])
        before.rename(tmp_path / "000002")
        loaded = await engine.load("m", None)
        assert (loaded.version, engine.versions()) == (2, {"m": ModelVersions(1, 2)})
        for _ in range(10):
            assert await engine.swap(["m"]) == {"m": 2}
            assert (await engine.embed("m", [1])).snapshot == 2
            assert await engine.rollback(["m"]) == {"m": 1}
            assert (await engine.embed("m", [1])).snapshot == 1
        await engine.discard(["m"])
        assert engine.versions() == {"m": ModelVersions(1)}
        stopping.set()
        await running
        assert computed
        for each in computed:
            assert each.rows[:, 0].tolist() == [each.snapshot * user for user in (1, 2, 3)]

    with_engine(use, m=recipe("user", "scaled", tmp_path))


def test_a_load_or_swap_that_fails_raises_its_own_error(tmp_path: Path) -> None:
    publish(tmp_path, scale=1.0)

    async def use(engine: ThreadEngine) -> None:
        with pytest.raises(SnapshotError, match="has no version 5"):
            await engine.load("m", 5)
        publish(tmp_path, first=cases.EXITS)
        with pytest.raises(InferenceError, match="version 2 failed on recent batches"):
            await engine.load("m", None)
        for turn in (engine.swap, engine.rollback):
            with pytest.raises(ConfigError, match="m: has no"):
                await turn(["m"])
        assert engine.versions() == {"m": ModelVersions(1)}

    with_engine(use, m=recipe("user", "scaled", tmp_path))


def test_a_model_that_cannot_be_made_ends_the_start() -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.factory: .*no such weights"):
        with_engine(lambda engine: None, m=recipe("user", "unable"))
