"""The whole ranker, from hashes and features to probabilities: candidates a second.

The peer is its torch twin in eager mode, which gets everything looked up and encoded beforehand:
rows of the item vectors, standardised statistics, encoded features. Ours does all of that in the
call that is timed. The limit is its products alone at the rate of one core, or its weights read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from predawn.bench import limits_layers
from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.bench.models_cases import agree, in_turn, rates
from predawn.server.models.item_table import ItemTable, embedding_rows
from predawn.server.models.ranker import Encoding, Ranker, RankerShape, fit_encoding
from predawn.server.models.ranker_training import (
    Candidates,
    RankerNet,
    Standard,
    fit_standard,
    ranker_tensors,
    untrained_ranker,
)
from predawn.server.request import F32, RankBatch, Source

ROWS = (1, 16, 64, 512)
_BATCHES = 8
_ITEMS = 50_000
_TASKS = ("click", "like")
_INPUTS = {
    "small": {"user": 64, "embedding": 32, "pair": 32, "pair_models": 1},
    "medium": {"user": 384, "embedding": 96, "pair": 128, "pair_models": 1},
}
_FEATURES = {"small": 1, "medium": 4}


@dataclass(frozen=True, slots=True)
class Twins:
    """One model in both forms, and what the torch one needs looked up."""

    shape: RankerShape
    net: RankerNet
    ranker: Ranker
    items: ItemTable
    encoding: Encoding
    standard: Standard


def rows(mark: Stamp, *, effort: Effort, smoke: bool) -> list[Row]:
    """Times a candidate and candidates a second, small and medium."""
    counts = ROWS[:2] if smoke else ROWS
    sizes = [size for size in _INPUTS if any(effort.wants(_name(size, n)) for n in counts)]
    cases = [case for size in sizes for case in _cases(twins(size), size, counts)]
    timed = measure(mark, cases, effort)
    return [*timed, *rates(mark, timed, "candidates")]


def _name(size: str, count: int) -> str:
    return f"ranker, {size}, {count} candidates"


def twins(size: str) -> Twins:
    """Untrained, of a size; some thousand items that were seen."""
    names = tuple(f"feature_{n}" for n in range(_FEATURES[size]))
    shape = RankerShape.of_size(size, _TASKS, names, **_INPUTS[size])
    rng = np.random.default_rng(5)
    hashes = np.unique(rng.integers(0, 2**64, _ITEMS, dtype=np.uint64))
    counts = rng.integers(1, 50, len(hashes)).astype(np.float32)
    sums = (counts[:, None] * rng.random((len(hashes), len(_TASKS)))).astype(np.float32)
    items = ItemTable(hashes, sums, counts, np.full(len(_TASKS), 0.3, np.float32))
    encoding = fit_encoding(_features(rng, 1_000, shape), shape.bins)
    standard = fit_standard(items.features())
    vectors = nn.Embedding(shape.embedding_rows + 1, shape.embedding)
    torch.nn.init.normal_(vectors.weight, generator=torch.Generator().manual_seed(5))
    net = untrained_ranker(shape, vectors, seed=5).requires_grad_(False)
    net.cross_u.mul_(0.1)  # untrained crosses blow values up, and rounding errors with them
    ranker = Ranker(shape, ranker_tensors(net, items, encoding, standard))
    return Twins(shape, net, ranker, items, encoding, standard)


def _features(rng: np.random.Generator, rows: int, shape: RankerShape) -> F32:
    return rng.exponential(30, (rows, len(shape.item_features))).astype(np.float32)


def batch_of(both: Twins, rows: int, seed: int) -> RankBatch:
    """One request; a third of its pairs missing."""
    rng, shape = np.random.default_rng(seed), both.shape
    sources = rng.integers(0, len(Source), (rows, shape.pair_models)).astype(np.uint8)
    sources[rng.random(rows) < 0.25] = Source.DEFAULT
    return RankBatch(
        user=rng.normal(size=(1, shape.user)).astype(np.float32),
        sources=np.zeros((1, 1), np.uint8),
        offsets=np.array([0, rows]),
        item_hashes=both.items.hashes[rng.integers(0, len(both.items.hashes), rows)],
        item_features=_features(rng, rows, shape),
        pairs=rng.normal(size=(rows, shape.pair)).astype(np.float32),
        pair_sources=sources,
    )


def _cases(both: Twins, size: str, counts: tuple[int, ...]) -> Iterator[Case]:
    for count in counts:
        name = _name(size, count)
        batches = [batch_of(both, count, seed) for seed in range(_BATCHES)]
        own = [_own_call(both, batch) for batch in batches]
        peer = [_torch_call(both, batch) for batch in batches]
        agree(name, "torch eager", own[0](), peer[0](), 1e-4)
        products = _products(both.shape)
        yield Case(
            name,
            Subject("predawn", in_turn(own), count),
            peers=(Subject("torch eager", in_turn(peer), count),),
            limit=limits_layers.slowest(count * products, 4 * products, count),
            per="candidate",
        )


def _products(shape: RankerShape) -> int:
    """Multiplications a candidate, with layer 1 split by its inputs."""
    hidden, last = shape.hidden, shape.mlp_2 or shape.mlp
    first = (shape.pair + len(shape.item_features) * shape.bins) * hidden
    crosses = shape.crosses * 2 * hidden * shape.rank
    layers = hidden * shape.mlp + (shape.mlp * last if shape.mlp_2 else 0)
    return first + crosses + layers + last * len(shape.tasks)


def _own_call(both: Twins, batch: RankBatch) -> Callable[[], object]:
    return lambda: both.ranker.score(batch)


def _torch_call(both: Twins, batch: RankBatch) -> Callable[[], object]:
    statistics = both.items.features()[both.items.find(batch.item_hashes)]
    candidates = Candidates(
        torch.from_numpy(embedding_rows(batch.item_hashes, both.shape.embedding_rows)),
        torch.from_numpy(statistics[:, -1].copy()),
        torch.from_numpy((statistics - both.standard.mean) / both.standard.std),
        torch.from_numpy(both.encoding.encode(batch.item_features)),
    )
    user, pairs = torch.from_numpy(batch.user), torch.from_numpy(batch.pairs)
    sources, pair_sources = (
        torch.from_numpy(each.astype(np.int64)) for each in (batch.sources, batch.pair_sources)
    )
    request = torch.zeros(len(batch.item_hashes), dtype=torch.int64)
    net = both.net

    @torch.inference_mode()
    def call() -> object:
        return torch.sigmoid(net(user, sources, request, candidates, pairs, pair_sources))

    return call
