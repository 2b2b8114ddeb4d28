"""What fills cost a request's read and a landed batch, in process.

Half of the candidates are absent. The limit of a read is the same call where all are there and
nothing is filled; that of a write, the same write of a model without fills.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from predawn.bench.harness import BenchError, Case, Subject
from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.clock import SystemClock
from predawn.server.pair_cache import FillRules, PairCache
from predawn.server.pair_neighbours import NeighbourLimits, Neighbours
from predawn.server.request import F32, U64, Source, UserItems

MODEL, DIM, TTL_MS = "fm", 64, 3_600_000
_MEAN, _RECENT = FillRules((Source.USER_MEAN,)), FillRules((Source.RECENT,), recent_length=16)
_NEIGHBOUR = FillRules((Source.NEIGHBOUR, Source.USER_MEAN))


@dataclass(frozen=True, slots=True)
class FillPlan:
    """candidates: of a request; users: of whom each has so many pairs; batch: users and items of
    each in one write."""

    candidates: tuple[int, ...]
    users: int
    batch: tuple[int, int]


def fill_cases(plan: FillPlan) -> list[Case]:
    """Reads with each level, a look, and a batch with what is kept by user."""
    reads = [case for n in plan.candidates for case in _reads(n, plan.users)]
    return [*reads, _write(plan)]


def _reads(n: int, users: int) -> list[Case]:
    there = _read(_store(FillRules(), n, users, every=1), n, users)
    looked = _store(FillRules(), n, users, every=1)
    levels = {"the user's mean": _MEAN, "his last ones": _RECENT, "neighbours": _NEIGHBOUR}
    return [
        *(
            Case(
                f"read {n} pairs, half of them absent, filled from {name}",
                Subject("predawn", _read(_store(rules, n, users, every=2), n, users)),
                limit=Subject("all there", there),
            )
            for name, rules in levels.items()
        ),
        Case(
            f"look at {n} pairs",
            Subject("predawn", _each(users, lambda u: looked.peek(MODEL, u, _items(n), TTL_MS))),
            limit=Subject("read", there),
        ),
    ]


def _write(plan: FillPlan) -> Case:
    users, items = plan.batch
    wanted = [UserItems(user, _items(items)) for user in range(users)]
    rows = _rows(users * items)

    def land(rules: FillRules) -> Callable[[], int]:
        cache = _store(rules, items, users, every=1)
        return lambda: cache.land(MODEL, wanted, rows, 1)

    return Case(
        f"write a batch of {items} pairs of each of {users} users, and to neighbours and means",
        Subject("predawn", land(_NEIGHBOUR), users * items),
        limit=Subject("without fills", land(FillRules()), users * items),
        per="pair",
    )


def _read(cache: PairCache, n: int, users: int) -> Callable[[], Any]:
    items, vectors = _items(n), _vectors(users)
    return _each(users, lambda user: cache.read(MODEL, user, items, TTL_MS, vectors[user]))


def _store(rules: FillRules, n: int, users: int, every: int) -> PairCache:
    """In which each of the users has one of `every` items."""
    default = np.zeros(DIM, dtype=np.float32)
    spec = TableSpec(MODEL, DIM, 1, "fp16", max(16, 2 * users * n), default, holds="pairs")
    clock = SystemClock()
    neighbours = _neighbours(clock, _vectors(users)) if rules is _NEIGHBOUR else {}
    cache = PairCache([spec], clock, bytes(32), StorePlace(), {MODEL: rules}, neighbours)
    if not asyncio.run(cache.ready(MODEL, [0])):
        raise BenchError("pairs: no memory for the tables")
    items, rows, vectors = _items(n), _rows(n), _vectors(users)
    for user in range(users):
        begin = user % every  # so that others have what he lacks
        cache.heard(MODEL, user, vectors[user])
        cache.land(MODEL, [UserItems(user, items[begin::every])], rows[begin::every], 1)
    return cache


def _neighbours(clock: SystemClock, vectors: F32) -> dict[str, Neighbours]:
    made = Neighbours("similar", DIM, NeighbourLimits(), clock, seed=0, in_thread=False)
    for vector in itertools.islice(itertools.cycle(vectors), 256):
        made.learn(vector)

    async def fitted() -> None:
        running = asyncio.create_task(made.run())
        await asyncio.sleep(0)  # one step of it is the fit
        running.cancel()

    asyncio.run(fitted())
    return {MODEL: made}


def _vectors(users: int) -> F32:
    return np.random.default_rng(1).normal(size=(users, DIM)).astype(np.float32)


def _items(n: int) -> U64:
    return np.arange(n, dtype=np.uint64) * np.uint64(2**40 + 7)


def _rows(n: int) -> F32:
    return np.random.default_rng(n).normal(size=(n, DIM)).astype(np.float32)


def _each(users: int, call: Callable[[int], Any]) -> Callable[[], Any]:
    """`call` of the next user, round and round."""
    order: Sequence[int] = range(users)
    following = itertools.cycle(order).__next__
    return lambda: call(following())
