"""What speculation costs a shown pair in process, all of it: hearing a request (predictor, ledger,
budget), deciding what to compute (chances, values, price, slices), and writing what the model
returned (store, fills, ledger). On the calibrated workload in virtual time; the model is free.

CPU time of one run, less that of a run in which nobody hears the requests; the first half of a run
only fills the store and the predictor. What is done once a request weighs
the more the fewer candidates it has.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from predawn.bench import harness
from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.workload import WorkloadOptions, generate
from predawn.server.batcher_share import ShareAccount
from predawn.server.cache_place import TableSpec
from predawn.server.engine import Computed
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import FillRules, PairCache
from predawn.server.pair_neighbours import NeighbourLimits, Neighbours
from predawn.server.pipeline_pairs import PairReader
from predawn.server.request import F32, PairRows, RankReply, RankRequest, Source, UserItems, UserRow
from predawn.server.simloop import LoopClock, SimLoop, simulate
from predawn.server.speculation.assembly import EngineTime, speculator_of
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.predictor import PredictorLimits, predictor_of
from predawn.server.traces import Trace

BAR_US = 2.0
"""Of CPU a shown pair, for deciding and writing."""

_MODEL, _DIM, _VECTOR = "fm", 64, 64
_LISTS: dict[str, Literal[1, 10]] = {"10": 1, "100": 10}
_PARTS = ("hear", "decide_and_write")
_TTL_MS = 6 * 3_600_000
_FILLS: dict[str, tuple[Source, ...]] = {
    "no fills": (),
    "neighbours, means of users": (Source.NEIGHBOUR, Source.USER_MEAN),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the workload, requests: the last so many of it; capacity: of the store; runs: of
    each case, heard and not."""

    users: int
    hours: float
    requests: int
    capacity: int
    runs: int


FULL = Plan(users=1_000, hours=24, requests=4_000, capacity=1_000_000, runs=3)
SMOKE = Plan(users=20, hours=3, requests=40, capacity=4_096, runs=1)


@dataclass
class Spent:
    """ns since the first half was over; pairs: shown meanwhile; computed: pairs."""

    pairs: int = 0
    computed: int = 0
    read: int = 0
    hear: int = 0
    engine: int = 0
    total: int = 0

    def us(self, ns: int) -> float:
        """Per shown pair."""
        return ns / 1e3 / max(1, self.pairs)


@dataclass
class FreeModel:
    """Returns rows at once, and says what that took."""

    clock: LoopClock
    spent: Spent
    rows: F32 = field(default_factory=lambda: np.ones((4_096, _DIM), dtype=np.float32))

    async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
        """`EmbedsPairs`."""
        began_ns = time.thread_time_ns()
        n = sum(len(each.item_hashes) for each in wanted)
        self.spent.computed += n
        computed = Computed(self.rows[:n], np.ones(n, dtype=np.bool_), 1, 1_000)
        self.spent.engine += time.thread_time_ns() - began_ns
        await asyncio.sleep(0.001)
        return computed


def rows(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """us of CPU a shown pair, by what it goes to, for each order of fills."""
    plan = SMOKE if smoke else FULL
    found: list[Row] = []
    for about, times in _LISTS.items():
        trace = _trace(plan, times)
        for fills, order in _FILLS.items():
            case = f"costs of speculation, {about} candidates, {fills}"
            if effort.wants(case):
                silent, heard = (
                    [_run(trace, plan, order, hears=hears) for _ in range(plan.runs)]
                    for hears in (False, True)
                )
                found += _rows(mark, case, silent, heard)
    return found


def _rows(mark: Stamp, case: str, silent: Sequence[Spent], runs: Sequence[Spent]) -> list[Row]:
    """What a run costs more than a silent one."""
    less = {each: float(np.median([_parts(run)[each] for run in silent])) for each in _PARTS}
    parts = {each: [_parts(run)[each] - less[each] for run in runs] for each in _PARTS}
    whole = [a + b for a, b in zip(parts["hear"], parts["decide_and_write"], strict=True)]
    n = sum(each.pairs for each in runs)
    per_asked = [each.computed / max(1, each.pairs) for each in runs]
    named = {"read": [each.us(each.read) for each in runs], **parts}
    return [
        mark.row(case, "all_but_read", float(np.median(whole)), "us/pair", limit=BAR_US, n=n),
        mark.row(case, "all_but_read_spread", harness.spread(whole), "share", n=len(runs)),
        *(mark.row(case, name, float(np.median(us)), "us/pair", n=n) for name, us in named.items()),
        mark.row(case, "computed_per_asked", float(np.median(per_asked)), "pairs", n=n),
    ]


def _trace(plan: Plan, times: Literal[1, 10]) -> Trace:
    trace = generate(WorkloadOptions(plan.users, plan.hours, seed=1, candidates=times))
    return trace.slice(max(0, len(trace) - plan.requests), len(trace))


def _parts(spent: Spent) -> dict[str, float]:
    others = spent.total - spent.read - spent.engine - spent.hear
    return {"hear": spent.us(spent.hear), "decide_and_write": spent.us(others)}


class _Nobody:
    """`HearsPairs` that does nothing."""

    def asked(
        self, model: str, request: RankRequest, rows: PairRows, scores: F32, vector: F32 | None
    ) -> None:
        """Hears nothing."""


def _run(trace: Trace, plan: Plan, order: tuple[Source, ...], *, hears: bool) -> Spent:
    loop, spent = SimLoop(), Spent()
    clock = LoopClock(loop, start_wall_ms=int(trace.t_ms[0]))
    metrics = Metrics((), (), (_MODEL,))
    neighbours = Neighbours(
        "similar", _DIM, NeighbourLimits(fill_ttl_ms=4 * _TTL_MS), clock, 0, in_thread=False
    )
    default: F32 = np.zeros(_DIM, dtype=np.float32)
    spec = TableSpec(_MODEL, _DIM, 1, "fp16", plan.capacity, default, holds="pairs")
    cache = PairCache(
        [spec],
        clock,
        bytes(32),
        fills={_MODEL: FillRules(order, 4 * _TTL_MS)},
        neighbours={_MODEL: neighbours},
    )
    speculator = speculator_of(
        {_MODEL: PairLimits(_TTL_MS, capacity=plan.capacity)},
        {_MODEL: predictor_of("learned", PredictorLimits(_TTL_MS))},
        FreeModel(clock, spent),
        cache,
        EngineTime(ShareAccount(1.0, 0), 1.0, 10_000),
        clock,
        metrics,
    )
    reader = PairReader(cache, {_MODEL: _TTL_MS}, speculator if hears else _Nobody(), metrics)

    async def main() -> None:
        tasks = [asyncio.create_task(work) for work in (speculator.run(), neighbours.run())]
        await _drive(trace, plan, clock, reader, spent)
        for task in tasks:
            task.cancel()

    simulate(main(), loop)
    return spent


async def _until(at_ms: int, clock: LoopClock) -> None:
    await asyncio.sleep(max(0.0, (at_ms - clock.wall_ms()) / 1e3))


async def _drive(
    trace: Trace, plan: Plan, clock: LoopClock, reader: PairReader, spent: Spent
) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((plan.users, _VECTOR)).astype(np.float32)
    began_ns = 0
    for number in range(len(trace)):
        await _until(int(trace.t_ms[number]), clock)
        if number == len(trace) // 2:
            spent.pairs = spent.computed = spent.read = spent.hear = spent.engine = 0
            began_ns = time.thread_time_ns()
        user = int(trace.users[number])
        items = trace.items[trace.offsets[number] : trace.offsets[number + 1]]
        nothing: F32 = np.zeros((len(items), 0), dtype=np.float32)
        request = RankRequest(user, items, nothing, "", 0, 0)
        known = {"light": UserRow(Source.DIRECT, 0, vectors[user % plan.users])}
        scores = rng.random(len(items), dtype=np.float32)
        start_ns = time.thread_time_ns()
        pairs = reader.read((_MODEL,), request, known)
        read_ns = time.thread_time_ns()
        reply = RankReply(np.arange(len(items)), scores, known, degraded=False, pairs=pairs)
        reader.after_reply(request, reply)
        spent.hear += time.thread_time_ns() - read_ns
        spent.read += read_ns - start_ns
        spent.pairs += len(items)
    spent.total = time.thread_time_ns() - began_ns
