"""Batches, traces and untrained models that the tests of models share."""

import dataclasses

import numpy as np
import torch

from predawn.server.models.item_table import ItemTable, count_items
from predawn.server.models.ranker import Encoding, RankerShape, fit_encoding
from predawn.server.models.ranker_training import (
    RankerNet,
    Standard,
    fit_standard,
    ranker_tensors,
    untrained_ranker,
)
from predawn.server.models.snapshots import Tensors
from predawn.server.models.user_features import FeatureShape
from predawn.server.models.user_tower import TowerNet, TowerShape, untrained_tower
from predawn.server.request import I64, RankBatch, Source, UserBatch
from predawn.server.traces import Trace

torch.set_num_threads(1)

FEATURES = FeatureShape(types=5, attributes=2, rows=50, item_rows=64)
TOWER = TowerShape(FEATURES)
RANKER = RankerShape(("click", "like"), ("duration_s", "price"), TOWER.dim, embedding_rows=64)
PAIR_RANKER = RankerShape.of_size(
    "tiny",
    RANKER.tasks,
    RANKER.item_features,
    user=TOWER.dim,
    embedding_rows=64,
    crosses=2,
    mlp_2=8,
    pair=20,
    pair_models=2,
    pair_dims=(16, 4),
)
PRIOR = np.array([1.0, 0.3, 0.2, 0.1, 0.25])


def user_batch(users: int, seed: int = 0, history: int = 12) -> UserBatch:
    """Random histories of 0 .. `history` events; user 0 has none."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, history + 1, users).astype(np.int32)
    lengths[0] = 0
    used = np.arange(history) < lengths[:, None]
    ages = np.cumsum(rng.integers(0, 10**7, (users, history)), axis=1)
    counts = np.where(lengths[:, None] > 0, rng.integers(0, 90, (users, 5)), 0)
    return UserBatch(
        users=rng.integers(0, 2**64, users, dtype=np.uint64),
        items=np.where(used, rng.integers(0, 2**64, (users, history), dtype=np.uint64), 0),
        types=np.where(used, rng.integers(1, 32, (users, history)), 0).astype(np.uint16),
        ages_ms=np.where(used, ages - ages[:, :1], 0),
        lengths=lengths,
        counts=counts.astype(np.float32),
        attributes=rng.normal(size=(users, 2)).astype(np.float32),
        hour=np.where(lengths > 0, rng.uniform(0, 24, users), 0).astype(np.float32),
    )


def some_users(batch: UserBatch, rows: I64) -> UserBatch:
    """The batch of some of the users."""
    names = [field.name for field in dataclasses.fields(UserBatch)]
    return UserBatch(**{name: getattr(batch, name)[rows] for name in names})


def tower(seed: int = 0) -> TowerNet:
    """Random weights, none of them at a value that hides a mistake."""
    net = untrained_tower(TOWER, seed)
    net.mean.data += 0.1
    net.std.data *= 1.5
    return net


@dataclasses.dataclass(frozen=True, slots=True)
class RankerParts:
    """A ranker of random weights in both forms, and some items that it has seen."""

    net: RankerNet
    items: ItemTable
    encoding: Encoding
    standard: Standard
    tensors: Tensors


def ranker(seed: int = 0, shape: RankerShape = RANKER) -> RankerParts:
    """Twenty items seen, two item features."""
    rng = np.random.default_rng(seed)
    seen = rng.integers(0, 2**64, 20, dtype=np.uint64)
    items = count_items(
        seen[rng.integers(0, 20, 200)], (rng.random((200, 2)) < 0.3).astype(np.float32)
    )
    encoding = fit_encoding(rng.exponential(30, (300, 2)).astype(np.float32), shape.bins)
    standard = fit_standard(items.features())
    net = untrained_ranker(shape, tower(seed).items, seed)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.rand(
            parameter.shape, generator=torch.Generator().manual_seed(1)
        )
    tensors = ranker_tensors(net, items, encoding, standard)
    return RankerParts(net, items, encoding, standard, tensors)


def rank_batch(
    counts: list[int], items: ItemTable, seed: int = 0, shape: RankerShape = RANKER
) -> RankBatch:
    """Requests of so many candidates each, half of them seen items, some features missing; half of
    the pairs unknown, NaN there."""
    rng = np.random.default_rng(seed)
    rows = sum(counts)
    known = items.hashes[rng.integers(0, len(items.hashes), rows)]
    unknown = rng.integers(0, 2**64, rows, dtype=np.uint64)
    features = rng.exponential(30, (rows, 2)) * (rng.random((rows, 2)) < 0.8)
    pair_sources = rng.integers(0, 7, (rows, shape.pair_models)).astype(np.uint8)
    pair_sources[rng.random(pair_sources.shape) < 0.5] = Source.DEFAULT
    is_missing = np.repeat(pair_sources == Source.DEFAULT, shape.dims_of_pairs(), axis=1)
    pairs = rng.normal(size=(rows, shape.pair))
    return RankBatch(
        user=rng.normal(size=(len(counts), TOWER.dim)).astype(np.float32),
        sources=rng.integers(0, 7, (len(counts), 1)).astype(np.uint8),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_hashes=np.where(rng.random(rows) < 0.5, known, unknown),
        item_features=features.astype(np.float32),
        pairs=np.where(is_missing, np.nan, pairs).astype(np.float32),
        pair_sources=pair_sources,
    )


def small_trace(requests: int = 400, seed: int = 0, users: int = 12) -> Trace:
    """Requests of 1 .. 3 items. Even items are clicked, nearly always; users 1 .. 3 click nothing.

    Times repeat, so that "strictly earlier" is put to the test.
    """
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, requests)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    who = rng.integers(1, users + 1, requests).astype(np.uint64)
    items = np.concatenate([rng.choice(30, n, replace=False) for n in counts]).astype(np.uint64)
    fits = (items % np.uint64(2) == 0) & (np.repeat(who, counts) > 3)
    clicked = fits ^ (rng.random(len(items)) < 0.1)
    like = np.where(rng.random(len(items)) < 0.5, clicked, np.nan).astype(np.float32)
    return Trace(
        t_ms=1_700_000_000_000 + np.sort(rng.integers(0, requests // 2, requests)) * 1000,
        users=who,
        offsets=offsets,
        items=items,
        item_ids=items,
        clicked=clicked,
        labels={"click": clicked.astype(np.float32), "like": like},
        item_features=(items[:, None] % np.uint64(2) + np.uint64(1)).astype(np.float32),
        item_feature_names=("parity",),
    )
