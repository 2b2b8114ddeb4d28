"""Pairs (user, item): is it faster to keep one user's pairs near one another?"""

from collections.abc import Callable

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
from predawn.csrc import _core
from predawn.server.request import F32, U64

_PLACEMENTS = ("user_major", "hashed")


def names(plan: Plan) -> list[str]:
    """Cases of `pairs`."""
    return [_read_name(plan), _full_name(plan)]


def _read_name(plan: Plan) -> str:
    return f"{plan.candidates} pairs of one user, {table_name('fp16', DIM, _few(plan))}"


def _full_name(plan: Plan) -> str:
    return f"{table_name('fp16', DIM, plan.entries)} as pairs, {plan.candidates} of a user"


def _few(plan: Plan) -> int:
    """Pairs that a table with room for `plan.entries` keeps nearly all of, however it places them:
    else the placement that loses more would be faster for it."""
    return plan.entries // 4


def pairs(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """Placement "user_major" against "hashed": what a read costs in a table with much room, where
    every call reads the pairs of another user; and what a table keeps that is as full as others."""
    return [*_reads(mark, plan, effort), *_kept(mark, plan, effort)]


def _reads(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    name = _read_name(plan)
    if not effort.wants(name):
        return []
    keys = _keys(_few(plan), plan.candidates)
    rows = rows_of(len(keys), DIM)
    turns = Batches(np.zeros((len(keys) // plan.candidates, plan.candidates), np.int64))
    caches = [_empty(plan, placement) for placement in _PLACEMENTS]
    found = [_found_row(mark, name, cache, keys, rows) for cache in caches]
    near, anywhere = (_reader(cache, keys, plan.candidates) for cache in caches)
    own, peer = turns.subject("predawn", near), turns.subject("hashed", anywhere)
    return [*measure(mark, [Case(name, own, peers=(peer,), per="key")], effort), *found]


def _kept(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    name = _full_name(plan)
    if not effort.wants(name):
        return []
    keys = _keys(plan.entries, plan.candidates)
    rows = rows_of(len(keys), DIM)
    return [
        _found_row(mark, name, _empty(plan, placement), keys, rows) for placement in _PLACEMENTS
    ]


def _empty(plan: Plan, placement: str) -> _core.EmbeddingCache:
    return new_cache(int(plan.entries * SPARE), DIM, "fp16", placement=placement)


def _found_row(mark: Stamp, name: str, cache: _core.EmbeddingCache, keys: U64, rows: F32) -> Row:
    """Fills the table; the share of the pairs that are there afterwards."""
    share = len(fill(cache, keys, rows)) / len(keys)
    return mark.row(name, f"found_{cache.placement}", share, "share", "higher", n=len(keys))


def _keys(pairs: int, items: int) -> U64:
    """uint64 [n, 2], n the whole users in `pairs`: every user with items of its own choice."""
    users = pairs // items
    keys = np.empty((users, items, 2), np.uint64)
    keys[:, :, 0] = ids_of(users)[:, None]
    keys[:, :, 1] = np.random.default_rng(users).integers(0, 2**62, (users, items), np.uint64)
    return keys.reshape(-1, 2)


def _reader(cache: _core.EmbeddingCache, keys: U64, candidates: int) -> Callable[[int], int]:
    """Users come in an order of their own, so that no read comes soon after a neighbour's."""
    order = np.random.default_rng(2).permutation(len(keys) // candidates)
    of_user = list(keys.reshape(-1, candidates, 2)[order])
    out, ages = np.empty((candidates, DIM), np.float32), np.empty(candidates, np.int64)
    get_many = cache.get_many
    return lambda i: get_many(of_user[i], NOW_MS, TTL_MS, out, ages)
