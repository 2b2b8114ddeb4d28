"""What pairs cost a request, in process: the read of all candidates, the word of what was missed,
and behind it the write of a batch.

The limit is the store's native read alone, keys and buffers at hand; the peer is what a program
without a store would do: a dictionary of positions by (user, item), rows taken from one array,
without ages.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from predawn.bench import neighbours
from predawn.bench.harness import BenchError, Case, Effort, Row, Stamp, Subject, measure
from predawn.bench.pairs_fills import FillPlan, fill_cases
from predawn.bench.pairs_ledger import ledger_cases
from predawn.csrc import _core
from predawn.server.batcher_share import ShareAccount
from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.clock import SystemClock
from predawn.server.engine import Computed
from predawn.server.metrics import Metrics
from predawn.server.pair_cache import PairCache
from predawn.server.pipeline_pairs import PairReader
from predawn.server.request import (
    F32,
    U64,
    PairRows,
    RankReply,
    RankRequest,
    Source,
    UserId,
    UserItems,
)
from predawn.server.speculation.assembly import EngineTime, speculator_of
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.predictor import PredictorLimits, predictor_of

MODEL, DIM, TTL_MS = "fm", 64, 3_600_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the suite. candidates: of a request; users: who have so many pairs each; batch:
    users and items of each in one write; fills: of the cases with fills."""

    candidates: tuple[int, ...]
    users: int
    batch: tuple[int, int]
    fills: FillPlan


FULL = Plan((100, 500), 1_000, (8, 64), FillPlan((10, 100, 512), 200, (8, 64)))
SMOKE = Plan((5,), 4, (2, 3), FillPlan((6,), 8, (2, 3)))


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """Time of a request's pairs, also where some are absent and filled, and of a pair
    written and accounted for."""
    plan = SMOKE if smoke else FULL
    cases = [
        case
        for candidates in plan.candidates
        for kind in ("integer", "string")
        for case in _requests(plan, candidates, kind)
    ]
    cases += [_write(plan), *fill_cases(plan.fills), *neighbours.cases(smoke=smoke)]
    cases += ledger_cases(plan.users, plan.batch[1])
    return measure(mark, cases, effort)


class _Nobody:
    """No engine: what is asked for waits."""

    async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
        raise AssertionError("nothing runs here")


def _requests(plan: Plan, candidates: int, kind: str) -> list[Case]:
    users: list[UserId] = [f"user-{u}" if kind == "string" else u for u in range(plan.users)]
    items, rows = _items(candidates), _rows(candidates)
    cache, metrics = _cache(len(users) * candidates, users), Metrics([], [], [MODEL])
    for user in users:
        cache.land(MODEL, [UserItems(user, items)], rows, 1)
    speculator = speculator_of(
        {MODEL: PairLimits(TTL_MS)},
        {MODEL: predictor_of("learned", PredictorLimits(TTL_MS))},
        _Nobody(),
        cache,
        EngineTime(ShareAccount(1.0, 0), 1.0, 1_000),
        SystemClock(),
        metrics,
    )
    reader = PairReader(cache, {MODEL: TTL_MS}, speculator, metrics)
    nothing: F32 = np.zeros((candidates, 0), dtype=np.float32)
    requests = [RankRequest(user, items, nothing, "", 0, 0) for user in users]
    there, none = _reply(reader.read((MODEL,), requests[0], {})[MODEL]), _reply(_all_missed(rows))
    what = f"{candidates} pairs, {kind} user"
    read = _in_turn(requests, lambda each: reader.read((MODEL,), each, {}))
    return [
        Case(
            f"read {what}",
            Subject("predawn", read),
            peers=(Subject("dictionary", _in_turn(users, _dictionary(users, items, rows))),),
            limit=Subject("native read", _native(len(users), items, rows)),
        ),
        Case(
            f"after the reply, {what}, all there",
            Subject("predawn", _in_turn(requests, lambda each: reader.after_reply(each, there))),
        ),
        Case(
            f"after the reply, {what}, all missed",
            Subject("predawn", _in_turn(requests, lambda each: reader.after_reply(each, none))),
        ),
    ]


def _reply(rows: PairRows) -> RankReply:
    scores = np.zeros(len(rows.rows), dtype=np.float32)
    return RankReply(np.zeros(0, dtype=np.int64), scores, {}, False, pairs={MODEL: rows})


def _all_missed(rows: F32) -> PairRows:
    n = len(rows)
    counts = [0] * len(Source)
    counts[Source.DEFAULT] = n
    sources = np.full(n, Source.DEFAULT, dtype=np.uint8)
    return PairRows(rows, sources, np.full(n, -1, dtype=np.int64), counts)


def _dictionary(users: list[UserId], items: U64, rows: F32) -> Callable[[UserId], F32]:
    """Positions by (user, item), in the array of all rows; the last is that of the unknown."""
    listed, n = items.tolist(), len(rows)
    at = {(u, item): k * n + i for k, u in enumerate(users) for i, item in enumerate(listed)}
    kept = np.concatenate([rows] * len(users) + [np.zeros((1, DIM), dtype=np.float32)])
    out: F32 = np.empty((n, DIM), dtype=np.float32)
    unknown = len(at)

    def read(user: UserId) -> F32:
        found = [at.get((user, item), unknown) for item in items.tolist()]
        return kept.take(found, axis=0, out=out, mode="clip")

    return read


def _native(users: int, items: U64, rows: F32) -> Callable[[], int]:
    n = len(items)
    native = _core.EmbeddingCache.create(capacity=2 * users * n, dim=DIM, seed=bytes(32))
    keys: list[U64] = []
    for user in range(users):
        keys.append(np.stack([np.full(n, user, dtype=np.uint64), items], axis=1))
        native.put_many(keys[-1], rows, 0, 1, _core.ORIGIN_COMPUTED)
    out, ages = np.empty((n, DIM), dtype=np.float32), np.empty(n, dtype=np.int64)
    return _in_turn(keys, lambda each: native.get_many(each, 0, TTL_MS, out, ages))


def _write(plan: Plan) -> Case:
    users, items = plan.batch
    wanted = [UserItems(user, _items(items)) for user in range(users)]
    cache, rows = _cache(users * items, range(users)), _rows(users * items)
    name = f"write a batch of {items} pairs of each of {users} users"
    land = Subject("predawn", lambda: cache.land(MODEL, wanted, rows, 1), users * items)
    return Case(name, land, per="pair")


def _cache(pairs: int, users: Sequence[UserId]) -> PairCache:
    """Empty, with room for twice so many pairs of these users."""
    default = np.zeros(DIM, dtype=np.float32)
    spec = TableSpec(MODEL, DIM, 1, "fp16", max(16, 2 * pairs), default, holds="pairs")
    cache = PairCache([spec], SystemClock(), bytes(32), StorePlace(huge_pages=True))
    if not asyncio.run(cache.ready(MODEL, users)):
        raise BenchError("pairs: no memory for the tables")
    return cache


def _items(n: int) -> U64:
    return np.arange(n, dtype=np.uint64) * np.uint64(2**40 + 7)


def _rows(n: int) -> F32:
    return np.random.default_rng(n).normal(size=(n, DIM)).astype(np.float32)


def _in_turn(each: Sequence[T], call: Callable[[T], Any]) -> Callable[[], Any]:
    """`call` of the next one, round and round."""
    following = itertools.cycle(each).__next__
    return lambda: call(following())
