"""The user tower from histories to embeddings, as the server's engine calls it: users a second.

The peer is the network that training runs, plain torch in float32 with float32 tables, on the same
features; both make them in the call that is timed. Ours computes the small size in float64 all the
same. The limit is the tower's products alone (`user_sizes.multiply_adds`) at the rate of one
large float32 product of the same run, so `share_of_limit` is the share of that rate.

Tables have 50,000 rows each here (medium: 410 MB in fp16), beyond any cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.bench.models_cases import Product, agree, in_turn, rates
from predawn.server.models.user_features import user_features
from predawn.server.models.user_sizes import HISTORY_LENGTHS, multiply_adds, tower_of_size
from predawn.server.models.user_tower import (
    TowerNet,
    TowerShape,
    UserTower,
    as_state,
    untrained_tower,
)
from predawn.server.request import F32, UserBatch
from predawn.server.traces import EVENT_TYPES

SIZES = ("small", "medium")
USERS = (1, 16, 64)
_BATCHES = 8
_TABLE_ROWS, _SMOKE_ROWS = 50_000, 200
_WITHIN = {"fp32": 1e-4, "fp16": 2e-3}  # tables of serving against those of training


@dataclass(frozen=True, slots=True)
class Twins:
    """One tower as it serves and as it is trained, and the FLOP of a user."""

    size: str
    shape: TowerShape
    served: UserTower
    net: TowerNet
    prior: F32

    @property
    def flop(self) -> int:
        """Of one user."""
        return 2 * multiply_adds(self.shape)


def rows(mark: Stamp, *, effort: Effort, smoke: bool) -> list[Row]:
    """Times a user and users a second, small and medium, by users a batch."""
    table_rows = _SMOKE_ROWS if smoke else _TABLE_ROWS
    product = Product(smoke=smoke)
    cases = [
        case
        for size in SIZES
        if any(map(effort.wants, _names(size)))
        for case in _cases(twins(size, table_rows), product)
    ]
    timed = measure(mark, cases, effort)
    return [*timed, *rates(mark, timed, "users")]


def twins(size: str, table_rows: int) -> Twins:
    """Random weights, the same in both."""
    shape = tower_of_size(size, len(EVENT_TYPES), rows=table_rows)
    net = untrained_tower(shape, seed=0)
    prior = np.linspace(0.5, 0.1, len(EVENT_TYPES), dtype=np.float32)
    served = UserTower(untrained_tower(shape, seed=0), prior)
    return Twins(size, shape, served, net.eval(), prior)


def histories(users: int, length: int, seed: int) -> UserBatch:
    """Users with half of `length` to all of it."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(length // 2, length + 1, users).astype(np.int32)
    used = np.arange(length) < lengths[:, None]
    ages = np.cumsum(rng.integers(1, 10**7, (users, length)), axis=1)
    types = len(EVENT_TYPES)
    return UserBatch(
        users=rng.integers(0, 2**64, users, dtype=np.uint64),
        items=np.where(used, rng.integers(1, 2**64, (users, length), dtype=np.uint64), 0),
        types=np.where(used, rng.integers(1, 2**types, (users, length)), 0).astype(np.uint16),
        ages_ms=np.where(used, ages - ages[:, :1], 0),
        lengths=lengths,
        counts=rng.integers(1, 500, (users, types)).astype(np.float32),
        attributes=np.zeros((users, 0), np.float32),
        hour=rng.uniform(0, 24, users).astype(np.float32),
    )


def _names(size: str) -> list[str]:
    return [f"user tower {size}, {users} users" for users in USERS]


def _cases(twins: Twins, product: Product) -> Iterator[Case]:
    for users, name in zip(USERS, _names(twins.size), strict=True):
        batches = [histories(users, HISTORY_LENGTHS[twins.size], seed) for seed in range(_BATCHES)]
        own = [_served(twins.served, batch) for batch in batches]
        peer = [_eager(twins, batch) for batch in batches]
        agree(name, "torch", own[0](), peer[0](), _WITHIN[twins.shape.tables])
        yield Case(
            name,
            Subject("predawn", in_turn(own), work=users),
            peers=(Subject("torch", in_turn(peer), work=users),),
            limit=product.subject(twins.flop),
            per="user",
        )


def _served(tower: UserTower, batch: UserBatch) -> Callable[[], object]:
    return lambda: tower.embed(batch)


def _eager(twins: Twins, batch: UserBatch) -> Callable[[], object]:
    prior = twins.prior.astype(np.float64)

    @torch.inference_mode()
    def call() -> object:
        state = as_state(user_features(batch, twins.shape.features, prior))
        return twins.net(state._replace(dense=state.dense.float())).numpy()

    return call
