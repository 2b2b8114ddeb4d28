"""The device's thread: strict lanes, slices that give way, errors of one job alone."""

import os
import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from engine_cases import Gate

from predawn.server.clock import SystemClock
from predawn.server.engine import Computed
from predawn.server.engine_jobs import Outcome
from predawn.server.engine_worker import Job, Worker, named
from predawn.server.errors import InferenceError
from predawn.server.request import Lane

ROWS = np.zeros((1, 2), dtype=np.float32)


class Bench:
    """A worker, what it delivered and in which order things ran."""

    def __init__(self, nice: int = 0) -> None:
        self.worker = Worker(SystemClock(), nice)
        self.delivered: SimpleQueue[tuple[str, Outcome | InferenceError, int]] = SimpleQueue()
        self.order: list[str] = []

    def job(self, lane: Lane, name: str, begin: Any = None) -> Job:
        def run() -> Any:
            self.order.append(name)
            out = begin() if begin else None
            return ROWS if out is None else out

        return Job(lane, name, run, lambda out, ns: self.delivered.put((name, out, ns)))

    def take(self, count: int) -> dict[str, Outcome | InferenceError]:
        return {
            name: out for name, out, _ in (self.delivered.get(timeout=10) for _ in range(count))
        }


@pytest.fixture
def bench() -> Any:
    made = Bench()
    made.worker.start()
    yield made
    made.worker.close()


def test_queued_jobs_run_in_lane_order_and_first_in_first_out_within_a_lane(bench: Bench) -> None:
    gate = Gate()
    bench.worker.submit(bench.job(Lane.SPECULATE, "first", gate.pass_through))
    assert gate.reached.wait(10)
    for lane in (Lane.SPECULATE, Lane.REFRESH, Lane.WAIT, Lane.RANK, Lane.RANK):
        bench.worker.submit(bench.job(lane, f"{lane.name} {len(bench.order)}"))
        bench.order.append("")
    bench.order.clear()
    gate.open()
    bench.take(6)
    assert bench.order == ["RANK 4", "RANK 5", "WAIT 3", "REFRESH 2", "SPECULATE 1"]


def test_a_sliced_job_gives_way_between_slices_and_goes_on_where_it_was(bench: Bench) -> None:
    gate = Gate()

    def slices() -> Generator[None, None, Computed]:
        for piece in range(3):
            bench.order.append(f"slice {piece}")
            if piece == 0:
                gate.pass_through()
            yield
        return Computed(ROWS, np.ones(1, dtype=np.bool_), 5, 0)

    bench.worker.submit(bench.job(Lane.SPECULATE, "pairs", slices))
    bench.worker.submit(bench.job(Lane.SPECULATE, "later"))
    assert gate.reached.wait(10)
    bench.worker.submit(bench.job(Lane.RANK, "rank"))
    gate.open()
    out = bench.take(3)
    assert bench.order == ["pairs", "slice 0", "rank", "slice 1", "slice 2", "later"]
    computed = out["pairs"]
    assert isinstance(computed, Computed) and computed.snapshot == 5 and computed.engine_ns > 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (SystemExit(3), "SystemExit: 3"),
        (InferenceError("m", "came late"), "came late"),
    ],
)
@pytest.mark.parametrize("sliced", [False, True])
def test_what_a_job_raises_ends_it_alone_and_names_the_model(
    bench: Bench, error: BaseException, reason: str, sliced: bool
) -> None:
    def fail() -> Any:
        raise error

    def fail_in_a_slice() -> Generator[None, None, Outcome]:
        yield
        raise error

    bench.worker.submit(bench.job(Lane.WAIT, "m", fail_in_a_slice if sliced else fail))
    bench.worker.submit(bench.job(Lane.WAIT, "good"))
    out = bench.take(2)
    assert str(out["m"]) == f"model 'm': {reason}"
    assert out["good"] is ROWS


@pytest.mark.parametrize("sliced", [False, True])
def test_a_dropped_job_is_not_run_to_its_end(bench: Bench, sliced: bool) -> None:
    gate, ended = Gate(), threading.Event()

    def slices() -> Generator[None, None, Outcome]:
        try:
            gate.pass_through()
            yield
            bench.order.append("second slice")
            return ROWS
        finally:
            ended.set()

    job = bench.job(Lane.SPECULATE, "pairs", slices)
    queued = bench.job(Lane.SPECULATE, "queued")
    bench.worker.submit(job)
    assert gate.reached.wait(10)
    bench.worker.submit(queued)
    queued.dropped, job.dropped = True, sliced
    gate.open()
    bench.worker.submit(bench.job(Lane.SPECULATE, "last"))
    assert ended.wait(10)
    assert set(bench.take(1 if sliced else 2)) == ({"last"} if sliced else {"pairs", "last"})
    assert bench.order == ["pairs", *([] if sliced else ["second slice"]), "last"]


def test_a_slice_that_fails_when_it_is_closed_does_not_end_the_thread(bench: Bench) -> None:
    gate = Gate()

    def slices() -> Generator[None, None, Outcome]:
        try:
            gate.pass_through()
            yield
        finally:
            raise OSError("pages are gone")

    job = bench.job(Lane.SPECULATE, "pairs", slices)
    bench.worker.submit(job)
    assert gate.reached.wait(10)
    job.dropped = True
    gate.open()
    bench.worker.submit(bench.job(Lane.WAIT, "good"))
    assert bench.take(1)["good"] is ROWS


def test_a_hung_job_blocks_neither_submit_nor_close() -> None:
    bench, gate = Bench(), Gate()
    bench.worker.start()
    bench.worker.submit(bench.job(Lane.WAIT, "hung", gate.pass_through))
    assert gate.reached.wait(10)
    assert bench.worker.busy_since_ns > 0
    queued = bench.job(Lane.WAIT, "queued")
    assert bench.worker.submit(queued)
    assert bench.worker.close() == [queued]
    assert not bench.worker.submit(queued)
    gate.open()


@pytest.mark.parametrize(("nice", "found"), [(0, 0), (3, 3), (40, 19)])
def test_only_the_workers_thread_gives_way(nice: int, found: int) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[int] = []
    bench = Bench(nice)
    bench.worker.start()
    ask = bench.job(
        Lane.WAIT,
        "m",
        lambda: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())),
    )
    bench.worker.submit(ask)
    bench.worker.submit(bench.job(Lane.WAIT, "end"))
    bench.take(1)
    bench.worker.close()
    assert seen == [min(before + found, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_an_error_that_has_a_name_keeps_it() -> None:
    error = InferenceError("other", "came late")
    assert named("m", error) is error
    assert str(named("m", KeyError("x"))) == "model 'm': KeyError: 'x'"
