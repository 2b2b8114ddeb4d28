"""Pairs (user, item): is it faster to keep one user's pairs near one another?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from predawn.bench.harness import Case, Effort, Row, Stamp, measure
from predawn.bench.store_tables import (
    DIM,
    NOW_MS,
    SPARE,
    TTL_MS,
    Batches,
    Plan,
    fill,
    ids_of,
    new_cache,
    rows_of,
    table_name,
)
from predawn.server.request import F32, U64


@dataclass(frozen=True, slots=True)
class _Placed:
    """found: share of the pairs that are there after the fill."""

    read: Callable[[int], int]
    found: float


def names(plan: Plan) -> list[str]:
    """Cases of `pairs`."""
    return [f"{plan.candidates} pairs of one user, {table_name('fp16', DIM, plan.entries)}"]


def pairs(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """Placement "user_major" against "hashed": every call reads the pairs of another user."""
    users = plan.entries // plan.candidates
    keys = _keys(users, plan.candidates)
    rows = rows_of(len(keys), DIM)
    near = _placed(keys, rows, plan.candidates, "user_major")
    anywhere = _placed(keys, rows, plan.candidates, "hashed")
    (name,) = names(plan)
    turns = Batches(np.zeros((users, plan.candidates), np.int64))
    case = Case(
        name,
        turns.subject("predawn", near.read),
        peers=(turns.subject("hashed", anywhere.read),),
        per="key",
    )
    return [
        *measure(mark, [case], effort),
        mark.row(name, "found_user_major", near.found, "share", "higher", n=len(keys)),
        mark.row(name, "found_hashed", anywhere.found, "share", "higher", n=len(keys)),
    ]


def _keys(users: int, items: int) -> U64:
    """uint64 [users * items, 2]: every user with items of its own choice."""
    keys = np.empty((users, items, 2), np.uint64)
    keys[:, :, 0] = ids_of(users)[:, None]
    keys[:, :, 1] = np.random.default_rng(users).integers(0, 2**62, (users, items), np.uint64)
    return keys.reshape(-1, 2)


def _placed(keys: U64, rows: F32, candidates: int, placement: str) -> _Placed:
    cache = new_cache(int(len(keys) * SPARE), DIM, "fp16", placement=placement)
    live = fill(cache, keys, rows)
    # Users in an order of their own, so that no read comes soon after a neighbour's.
    order = np.random.default_rng(2).permutation(len(keys) // candidates)
    of_user = list(keys.reshape(-1, candidates, 2)[order])
    out, ages = np.empty((candidates, DIM), np.float32), np.empty(candidates, np.int64)
    get_many = cache.get_many
    return _Placed(lambda i: get_many(of_user[i], NOW_MS, TTL_MS, out, ages), len(live) / len(keys))
