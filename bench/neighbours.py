"""What fills from neighbours cost, in process: absent pairs of a request, and what is learnt from a
batch that lands.

The limit is the native read alone, features and buffers at hand; the peer is numpy: a dictionary of
positions by item, their regressions taken from one array and multiplied.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from predawn.bench.harness import Case, Subject
from predawn.csrc._aggregates import ItemAggregates
from predawn.server.clock import SystemClock
from predawn.server.pair_neighbours import NeighbourLimits, Neighbours
from predawn.server.request import F32, U64

DIM, USER_DIM, FEATURES = 64, 64, 17
FOREVER_MS = 2**60
_REQUESTS = 64  # different ones, round and round


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. items: known ones; candidates: absent pairs of a request; batch: users and pairs of
    each that land together."""

    items: int
    candidates: int
    batch: tuple[int, int]


FULL = Plan(items=4_096, candidates=100, batch=(8, 64))
SMOKE = Plan(items=64, candidates=5, batch=(2, 3))


def cases(*, smoke: bool) -> list[Case]:
    """For the suite of pairs."""
    plan = SMOKE if smoke else FULL
    users: F32 = np.random.default_rng(0).normal(size=(256, USER_DIM)).astype(np.float32)
    return [
        _fill(plan, users, "similar"),
        _fill(plan, users, "clusters"),
        _learn(plan, users, "similar"),
        _learn(plan, users, "clusters"),
    ]


def _fill(plan: Plan, users: F32, kind: Literal["similar", "clusters"]) -> Case:
    known, items = _known(plan, users, kind), _items(plan.items)
    n = plan.candidates
    rows: F32 = np.empty((n, DIM), dtype=np.float32)
    missing = np.ones(n, dtype=np.uint8)
    asked = _requests(items, n)
    name = f"neighbours fill {n} absent pairs, {kind}"
    own = Subject("predawn", lambda: known.fill(users[0], next(asked), rows, missing))
    if kind == "clusters":
        return Case(name, own)
    peer = Subject("numpy", _numpy(items, n))
    return Case(name, own, peers=(peer,), limit=Subject("native read", _native(items, n)))


def _learn(plan: Plan, users: F32, kind: Literal["similar", "clusters"]) -> Case:
    known, items = _known(plan, users, kind), _items(plan.items)
    several, each = plan.batch
    rows: F32 = np.ones((each, DIM), dtype=np.float32)
    landed = _requests(items, each)

    def land() -> None:
        for user in range(several):
            known.add(user, users[user], next(landed), rows, 1)

    name = f"neighbours learn {each} pairs of each of {several} users, {kind}"
    return Case(name, Subject("predawn", land, several * each), per="pair")


def _known(plan: Plan, users: F32, kind: Literal["similar", "clusters"]) -> Neighbours:
    """All items known, with half of the table empty as a set does not fill up evenly."""
    limits = NeighbourLimits(items=2 * plan.items, directions=FEATURES - 1)
    known = Neighbours(kind, DIM, limits, SystemClock(), seed=0)
    for vector in users:
        known.learn(vector)
    known.refresh()
    items = _items(plan.items)
    for user in range(4):
        known.add(user, users[user], items, np.ones((len(items), DIM), dtype=np.float32), 1)
    return known


def _native(items: U64, n: int) -> Callable[[], int]:
    table = ItemAggregates(2 * len(items), FEATURES, DIM, half_life_ms=1e9)
    query: F32 = np.ones(FEATURES, dtype=np.float32)
    every = np.ones((len(items), FEATURES), dtype=np.float32)
    table.add(items, every, np.ones((len(items), DIM), dtype=np.float32), 0)
    rows: F32 = np.empty((n, DIM), dtype=np.float32)
    weights, found = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.uint8)
    missing, asked = np.ones(n, dtype=np.uint8), _requests(items, n)
    return lambda: table.read(next(asked), missing, query, 0, FOREVER_MS, 0.5, rows, weights, found)


def _numpy(items: U64, n: int) -> Callable[[], Any]:
    at = {item: position for position, item in enumerate(items.tolist())}
    table: F32 = np.ones((len(items), FEATURES, DIM), dtype=np.float32)
    query: F32 = np.ones(FEATURES, dtype=np.float32)
    asked = _requests(items, n)
    return lambda: query @ table[[at[item] for item in next(asked).tolist()]]


def _requests(items: U64, n: int) -> "itertools.cycle[U64]":
    rng = np.random.default_rng(n)
    return itertools.cycle([rng.choice(items, n, replace=False) for _ in range(_REQUESTS)])


def _items(n: int) -> U64:
    return np.arange(n, dtype=np.uint64) * np.uint64(2**40 + 7)
