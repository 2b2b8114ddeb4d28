"""The engine in a thread: results, checks, lane order, cancellation, and a model that hangs."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from predawn.server.clock import SystemClock
from predawn.server.engine_thread import ThreadEngine
from predawn.server.errors import InferenceError
from predawn.server.metrics import Metrics
from predawn.server.request import F32, Lane, RankBatch, UserBatch, UserId


class Gate:
    """Holds the engine's thread until it is opened; the loop can wait for the first arrival."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self._reached.set()
        assert self._opened.wait(30)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 30)

    def open(self) -> None:
        self._opened.set()


def histories(users: Sequence[UserId]) -> UserBatch:
    n = len(users)
    return UserBatch(
        users=np.array([int(user) for user in users], dtype=np.uint64),
        items=np.zeros((n, 1), dtype=np.uint64),
        types=np.zeros((n, 1), dtype=np.uint16),
        ages_ms=np.zeros((n, 1), dtype=np.int64),
        lengths=np.zeros(n, dtype=np.int32),
        counts=np.zeros((n, 1), dtype=np.float32),
        attributes=np.zeros((n, 0), dtype=np.float32),
        hour=np.zeros(n, dtype=np.float32),
    )


def doubled(batch: UserBatch) -> F32:
    return np.repeat(batch.users[:, None] * 2, 2, axis=1).astype(np.float32)


class Model:
    dim = 2

    def __init__(self, embed: Callable[[UserBatch], Any] = doubled) -> None:
        self.embed = embed


class Ranker:
    tasks = ("click",)
    item_features: tuple[str, ...] = ()
    inline = False

    def __init__(self, score: Callable[[RankBatch], Any]) -> None:
        self.score = score


BATCH = RankBatch(
    user=np.zeros((1, 2), dtype=np.float32),
    sources=np.zeros((1, 1), dtype=np.uint8),
    offsets=np.array([0, 3], dtype=np.int64),
    item_hashes=np.zeros(3, dtype=np.uint64),
    item_features=np.zeros((3, 0), dtype=np.float32),
)


def halves(batch: RankBatch) -> F32:
    return np.full((len(batch.item_hashes), 1), 0.5, dtype=np.float32)


def with_engine(
    use: Callable[[ThreadEngine], Any],
    embed: Callable[[UserBatch], Any] = doubled,
    metrics: Metrics | None = None,
    nice: int = 0,
    score: Callable[[RankBatch], Any] = halves,
) -> Any:
    """Runs the coroutine function `use` with a started engine of one model, "m", version 7, and one
    ranker, "r"."""

    async def main() -> Any:
        counted = metrics or Metrics(["m"], [])
        models = {"m": Model(embed)}
        rankers = {"r": Ranker(score)}
        engine = ThreadEngine(models, rankers, histories, SystemClock(), counted, {"m": 7}, nice)
        engine.start()
        try:
            return await asyncio.wait_for(use(engine), 10)
        finally:
            engine.close()

    return asyncio.run(main())


def test_a_batch_comes_back_with_version_and_time() -> None:
    async def use(engine: ThreadEngine) -> None:
        computed = await engine.embed("m", [1, 5])
        assert computed.rows.tolist() == [[2, 2], [10, 10]]
        assert computed.ok.tolist() == [True, True]
        assert (computed.snapshot, computed.error) == (7, "")
        assert computed.engine_ns > 0
        assert engine.busy_since_ns == 0

    with_engine(use)


def test_a_row_that_is_not_finite_is_marked_and_the_others_stand() -> None:
    def embed(batch: UserBatch) -> F32:
        rows = doubled(batch)
        rows[1, 0], rows[2, 1] = np.nan, np.inf
        return rows

    async def use(engine: ThreadEngine) -> None:
        computed = await engine.embed("m", [1, 2, 3, 4])
        assert computed.ok.tolist() == [True, False, False, True]
        assert "not finite" in computed.error

    with_engine(use, embed)


def raising(batch: UserBatch) -> F32:
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("embed", "reason"),
    [
        (raising, "ZeroDivisionError: by zero"),
        (lambda batch: None, "returned NoneType"),
        (lambda batch: doubled(batch)[:1], r"returned float32 \[1, 2\], expected float32 \[2, 2\]"),
        (lambda batch: doubled(batch).astype(np.float64), r"returned float64 \[2, 2\]"),
    ],
)
def test_a_broken_model_fails_its_batch_with_name_and_reason_and_nothing_else(
    embed: Callable[[UserBatch], Any], reason: str
) -> None:
    calls: list[int] = []

    def once_broken(batch: UserBatch) -> Any:
        calls.append(1)
        return embed(batch) if len(calls) == 1 else doubled(batch)

    async def use(engine: ThreadEngine) -> None:
        with pytest.raises(InferenceError, match=f"model 'm': {reason}"):
            await engine.embed("m", [1, 2])
        assert (await engine.embed("m", [3])).rows.tolist() == [[6, 6]]

    with_engine(use, once_broken)


def test_histories_that_cannot_be_read_fail_the_batch() -> None:
    async def use(engine: ThreadEngine) -> None:
        with pytest.raises(InferenceError, match="ValueError"):
            await engine.embed("m", ["not a number"])

    with_engine(use)


def test_rank_jobs_go_before_queued_batches_and_their_time_is_counted() -> None:
    gate, order = Gate(), list[str]()

    def embed(batch: UserBatch) -> F32:
        gate.pass_through()
        order.append(f"embed {batch.users[0]}")
        return doubled(batch)

    def score(batch: RankBatch) -> F32:
        order.append("rank")
        return np.zeros((3, 1), dtype=np.float32)

    metrics = Metrics(["m"], [])

    async def use(engine: ThreadEngine) -> None:
        batches = [asyncio.ensure_future(engine.embed("m", [user])) for user in (1, 2)]
        await gate.reached()
        assert engine.busy_since_ns > 0
        scores = asyncio.ensure_future(engine.score("r", BATCH))
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*batches, scores)
        assert order == ["embed 1", "rank", "embed 2"]
        assert metrics.engine_ns[Lane.RANK] > 0

    with_engine(use, embed, metrics, score=score)


def test_an_error_of_a_ranker_reaches_the_caller() -> None:
    def score(batch: RankBatch) -> F32:
        raise KeyError("weights")

    async def use(engine: ThreadEngine) -> None:
        with pytest.raises(InferenceError, match="model 'r': KeyError: 'weights'"):
            await engine.score("r", BATCH)

    with_engine(use, score=score)


def test_a_model_that_exits_does_not_end_the_engine() -> None:
    def embed(batch: UserBatch) -> F32:
        if batch.users[0] == 1:
            raise SystemExit(3)
        return doubled(batch)

    async def use(engine: ThreadEngine) -> None:
        with pytest.raises(RuntimeError, match=r"SystemExit\(3\)"):
            await engine.embed("m", [1])
        assert (await engine.embed("m", [2])).rows.tolist() == [[4, 4]]

    with_engine(use, embed)


def test_a_hung_model_blocks_neither_the_loop_nor_close() -> None:
    gate = Gate()

    def embed(batch: UserBatch) -> F32:
        gate.pass_through()
        return doubled(batch)

    async def use(engine: ThreadEngine) -> None:
        hung = asyncio.ensure_future(engine.embed("m", [1]))
        queued = asyncio.ensure_future(engine.embed("m", [2]))
        await gate.reached()
        assert engine.busy_since_ns > 0
        assert not hung.done()
        engine.close()
        await asyncio.wait([queued])
        assert queued.cancelled()
        hung.cancel()
        with pytest.raises(asyncio.CancelledError):
            await engine.embed("m", [3])

    with_engine(use, embed)
    gate.open()


def test_a_cancelled_batch_that_has_not_begun_is_not_computed() -> None:
    gate, seen = Gate(), list[int]()

    def embed(batch: UserBatch) -> F32:
        gate.pass_through()
        seen.append(int(batch.users[0]))
        return doubled(batch)

    async def use(engine: ThreadEngine) -> None:
        batches = [asyncio.ensure_future(engine.embed("m", [user])) for user in (1, 2, 3)]
        await gate.reached()
        assert engine.busy_since_ns > 0
        batches[1].cancel()
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(batches[0], batches[2])
        assert seen == [1, 3]

    with_engine(use, embed)


@pytest.mark.parametrize(("nice", "found"), [(0, 0), (3, 3), (40, 19)])
def test_only_the_engines_thread_gives_way(nice: int, found: int) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[int] = []

    def embed(batch: UserBatch) -> F32:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return doubled(batch)

    async def use(engine: ThreadEngine) -> None:
        await engine.embed("m", [1])

    with_engine(use, embed, nice=nice)
    assert seen == [min(before + found, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
