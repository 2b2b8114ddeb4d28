"""Several threads and processes on one store: how reads scale, and what a writer costs a reader.

Turns of all set-ups alternate, so that a disturbance hits all of them; a figure is the median over
turns. Processes have a core each while there are enough.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from predawn.bench import harness, machine
from predawn.bench.harness import BenchError, Case, Effort, Row, Stamp, measure
from predawn.bench.store_child import Turn, caller, work
from predawn.bench.store_tables import (
    DIM,
    Plan,
    batches_of,
    filled,
    rows_of,
    scratch,
    store_reader,
    table_name,
)
from predawn.csrc import _core

_DTYPE = "fp16"
_COUNTS = (1, 2, 4, 8)
_POOL_BATCH = 10_000


def counts() -> list[int]:
    """Numbers of threads that have a core each here; always 1 and 2."""
    return [n for n in _COUNTS if n <= max(2, len(machine.cores()))]


def _table(plan: Plan) -> str:
    return table_name(_DTYPE, DIM, plan.entries)


def names(plan: Plan) -> list[str]:
    """Cases of `sharing`."""
    return [
        *(f"{n} threads, get {plan.batch:,}, {_table(plan)}" for n in counts()),
        *(_pool_name(plan, n) for n in counts()[1:]),
        *(f"{n} processes, get {plan.batch:,}, {_table(plan)}" for n in (1, 2)),
        _writer_name(plan),
    ]


def _pool_name(plan: Plan, n: int) -> str:
    return f"pool of {n}, get {_POOL_BATCH:,}, {_table(plan)}"


def _writer_name(plan: Plan) -> str:
    return f"get {plan.batch:,} beside a writer, {_table(plan)}"


def sharing(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """Everything on one table, attached as often as it takes."""
    with scratch() as folder:
        path = folder / "store"
        table = filled(rows_of(plan.entries, DIM), _DTYPE, path=path)
        found = [*_threads(mark, plan, table.cache)]
        batches = batches_of(table.live, _POOL_BATCH)
        alone = batches.subject("one thread", store_reader(table, batches))
        for n in counts()[1:]:
            pool = replace(table, cache=_core.EmbeddingCache.attach(str(path), threads=n))
            own = batches.subject("predawn", store_reader(pool, batches))
            case = Case(_pool_name(plan, n), own, peers=(alone,), per="key")
            found += measure(mark, [case], effort)
        return [*found, *_processes(mark, plan, path), *_beside_a_writer(mark, plan, path)]


def _threads(mark: Stamp, plan: Plan, cache: _core.EmbeddingCache) -> list[Row]:
    """Python threads with buffers of their own; the store lets go of Python's lock."""
    calls = [caller(cache, "read", plan.entries, plan.batch, n) for n in range(counts()[-1])]
    rates: dict[int, list[float]] = {n: [] for n in counts()}
    for _ in range(plan.turns):
        for n in counts():
            turns = _at_once([partial(work, call, plan.batch, plan.seconds) for call in calls[:n]])
            rates[n].append(_rate(turns))
    return _scaling(mark, plan, "threads", rates)


def _at_once(works: Sequence[Callable[[], Turn]]) -> list[Turn]:
    with ThreadPoolExecutor(len(works)) as pool:
        return [begun.result() for begun in [pool.submit(each) for each in works]]


def _rate(turns: Sequence[Turn]) -> float:
    """Million keys a second, all together."""
    return sum(turn.keys / turn.elapsed_ns * 1_000 for turn in turns)


def _scaling(mark: Stamp, plan: Plan, what: str, rates: dict[int, list[float]]) -> list[Row]:
    rows: list[Row] = []
    alone = np.array(rates[1])
    for n, found in rates.items():
        case = f"{n} {what}, get {plan.batch:,}, {_table(plan)}"
        rate = float(np.median(found))
        rows.append(mark.row(case, "throughput", rate, "M keys/s", "higher", n=len(found)))
        rows.append(
            mark.row(case, "throughput_spread", harness.spread(found), "share", n=len(found))
        )
        times = float(np.median(np.array(found) / alone))
        rows.append(mark.row(case, "speedup", times, "times one", "higher", limit=n, n=len(found)))
    return rows


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process of store_child."""

    process: "subprocess.Popen[str]"

    def begin(self, seconds: float) -> None:
        """Starts a turn."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def end(self) -> Turn:
        """Waits for the turn that was begun."""
        return Turn(**json.loads(self.line()))

    def line(self) -> str:
        """The next that it says; BenchError when it died."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said:
            raise BenchError(f"store: a process on it ended with status {self.process.wait()}")
        return said


@contextmanager
def worker(path: Path, role: str, plan: Plan, core: int) -> Generator[_Worker, None, None]:
    """A process that reads or writes the store at `path`, on a core of its own."""
    arguments = [str(path), role, str(plan.entries), str(plan.batch), str(core)]
    process = subprocess.Popen(
        [sys.executable, "-m", "predawn.bench.store_child", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            found = _Worker(process)
            found.line()
            machine.pin(process.pid, core)
            yield found
        finally:
            process.kill()


def _cores() -> tuple[int, int]:
    """Two cores, the same one twice where there is one."""
    return machine.cores()[0], machine.cores()[-1]


def _processes(mark: Stamp, plan: Plan, path: Path) -> list[Row]:
    rates: dict[int, list[float]] = {1: [], 2: []}
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(path, "read", plan, core)) for core in _cores()]
        for _ in range(plan.turns):
            for n in rates:
                rates[n].append(_rate(_turns(workers[:n], plan.seconds)))
    return _scaling(mark, plan, "processes", rates)


def _turns(workers: Sequence[_Worker], seconds: float) -> list[Turn]:
    for each in workers:
        each.begin(seconds)
    return [each.end() for each in workers]


def _beside_a_writer(mark: Stamp, plan: Plan, path: Path) -> list[Row]:
    """p99 of a reader's batches, alone and while a writer overwrites at full speed."""
    alone: list[float] = []
    beside: list[float] = []
    written: list[float] = []
    first, last = _cores()
    with worker(path, "read", plan, first) as reader, worker(path, "write", plan, last) as writer:
        for _ in range(2 * plan.turns):
            alone.append(_turns([reader], plan.seconds)[0].p99_us)
            read, wrote = _turns([reader, writer], plan.seconds)
            beside.append(read.p99_us)
            written.append(_rate([wrote]))
    name, n = _writer_name(plan), len(alone)
    p99_us = float(np.median(beside))
    more = float(np.median(np.array(beside) / np.array(alone))) - 1
    return [
        mark.row(name, "p99", p99_us, "us", limit=float(np.median(alone)), n=n),
        mark.row(name, "p99_spread", harness.spread(beside), "share", n=n),
        mark.row(name, "p99_more_than_alone", more, "share", n=n),
        mark.row(name, "written", float(np.median(written)), "M keys/s", "higher", n=n),
    ]
