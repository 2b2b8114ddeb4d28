"""The first layer of a ranker from where its inputs lie: native, eager torch and numpy.

All get the same: a part of the layer for the user, a table of int8 item rows with a scale each,
positions of the candidates in it, rows of pair embeddings with their sources, dense features. They
gather, widen, put in the learned vector where a pair is missing, put side by side, multiply, add
what the user and the sources are worth, and rectify. Ours has the miss vector multiplied
beforehand, as a snapshot allows; the rivals have it in the row, which is as cheap for them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from predawn.bench import limits_layers
from predawn.bench.harness import Case, Subject
from predawn.bench.models_cases import agree, in_turn
from predawn.csrc import _layers
from predawn.server.request import F32, I64, U8, Source

ROWS = (1, 4, 16, 64, 512)
_BATCHES = 16  # of different candidates
_MISSING = int(Source.DEFAULT)


@dataclass(frozen=True, slots=True)
class Widths:
    """Of a size of the ranker; items: rows of the table."""

    item: int
    pair: int
    dense: int
    hidden: int
    items: int = 100_000

    @property
    def depth(self) -> int:
        """Rows of the weights."""
        return self.item + self.pair + self.dense


SIZES = {"small": Widths(32, 32, 8, 64), "medium": Widths(128, 128, 32, 256)}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a snapshot holds: items int8 [n, item], scales [n], weights [depth, hidden], miss
    [pair], by_source [sources, hidden]."""

    items: NDArray[np.int8]
    scales: F32
    weights: F32
    miss: F32
    by_source: F32


@dataclass(frozen=True, slots=True)
class Batch:
    """One request of R candidates: user [1, hidden], at int64 [R], pairs [R, pair], sources uint8
    [R, 1], dense [R, dense]."""

    user: F32
    at: I64
    pairs: F32
    sources: U8
    dense: F32


def parts_of(widths: Widths) -> Parts:
    """Random ones."""
    rng = np.random.default_rng(1)
    return Parts(
        rng.integers(-127, 128, (widths.items, widths.item)).astype(np.int8),
        rng.uniform(0.005, 0.02, widths.items).astype(np.float32),
        _normal(rng, widths.depth, widths.hidden) * np.float32(widths.depth**-0.5),
        _normal(rng, 1, widths.pair)[0],
        _normal(rng, len(Source), widths.hidden),
    )


def batch_of(widths: Widths, rows: int, seed: int) -> Batch:
    """Random candidates, a third of their pairs missing."""
    rng = np.random.default_rng(seed)
    sources = rng.integers(0, len(Source), (rows, 1)).astype(np.uint8)
    sources[rng.random((rows, 1)) < 0.25] = _MISSING
    return Batch(
        _normal(rng, 1, widths.hidden),
        rng.integers(0, widths.items, rows),
        _normal(rng, rows, widths.pair),
        sources,
        _normal(rng, rows, widths.dense),
    )


def _normal(rng: np.random.Generator, rows: int, columns: int) -> F32:
    return rng.normal(size=(rows, columns)).astype(np.float32)


def named(smoke: bool) -> Iterator[tuple[str, Callable[[], Case]]]:
    """A name and how to make the case, for every size and number of candidates; times are a
    candidate's. With `smoke` on small tables."""
    for size, widths in SIZES.items():
        small = replace(widths, items=1_000) if smoke else widths
        for rows in ROWS[:2] if smoke else ROWS:
            name = f"first layer, {size}, {rows} candidates"
            yield name, partial(_case, name, small, rows)


def _case(name: str, widths: Widths, rows: int) -> Case:
    parts = parts_of(widths)
    batches = [batch_of(widths, rows, seed) for seed in range(_BATCHES)]
    layer = layer_of(parts, widths)
    out = np.empty((rows, widths.hidden), dtype=np.float32)
    own = [own_call(layer, batch, out) for batch in batches]
    peers = {
        "torch eager": [torch_call(parts, batch) for batch in batches],
        "numpy": [numpy_call(parts, batch) for batch in batches],
    }
    for peer, calls in peers.items():
        agree(name, peer, own[0](), calls[0](), 1e-5)
    read = widths.depth * widths.hidden * 4 + rows * (widths.item + 4 * widths.pair)
    limit = limits_layers.slowest(rows * widths.depth * widths.hidden, read, rows)
    return Case(
        name,
        Subject("predawn", in_turn(own), rows),
        peers=tuple(Subject(peer, in_turn(calls), rows) for peer, calls in peers.items()),
        limit=limit,
        per="candidate",
    )


def layer_of(parts: Parts, widths: Widths) -> _layers.GatherL1:
    """Ours, made once per snapshot."""
    by_source = parts.by_source.copy()
    pair = parts.weights[widths.item : widths.item + widths.pair]
    by_source[_MISSING] += parts.miss @ pair
    return _layers.GatherL1(
        parts.weights,
        vectors=parts.items,
        vectors_scales=parts.scales,
        multiply_vectors=True,
        pair_dims=[widths.pair],
        source_part=by_source,
        missing_source=_MISSING,
        dense=widths.dense,
        relu=True,
    )


def own_call(layer: _layers.GatherL1, batch: Batch, out: F32) -> Callable[[], object]:
    """Ours on a batch; returns `out`."""
    offsets = np.array([0, len(batch.at)])

    def call() -> F32:
        layer.run(
            out,
            offsets,
            batch.user,
            vector_at=batch.at,
            pairs=batch.pairs,
            pair_sources=batch.sources,
            dense=batch.dense,
        )
        return out

    return call


def numpy_call(parts: Parts, batch: Batch) -> Callable[[], object]:
    """The formula in numpy, into buffers made beforehand."""
    source, columns = batch.sources[:, 0].astype(np.int64), parts.scales[:, None]
    rows, (item, pair) = len(batch.at), (parts.items.shape[1], len(parts.miss))
    steps, scales = np.empty((rows, item), np.int8), np.empty((rows, 1), np.float32)
    x, out = (np.empty((rows, width), np.float32) for width in parts.weights.shape)
    of_source = np.empty_like(out)
    of_items, of_pairs, of_dense = np.split(x, [item, item + pair], axis=1)

    def call() -> object:
        parts.items.take(batch.at, axis=0, out=steps, mode="clip")
        columns.take(batch.at, axis=0, out=scales, mode="clip")
        np.multiply(steps, scales, out=of_items)
        of_pairs[:] = batch.pairs
        np.copyto(of_pairs, parts.miss, where=batch.sources == _MISSING)
        of_dense[:] = batch.dense
        np.dot(x, parts.weights, out=out)
        np.add(out, batch.user, out=out)
        parts.by_source.take(source, axis=0, out=of_source, mode="clip")
        np.add(out, of_source, out=out)
        return np.maximum(out, 0, out=out)

    return call


def torch_call(parts: Parts, batch: Batch) -> Callable[[], object]:
    """The formula in eager torch, into buffers made beforehand. Nothing needs a gradient, so
    nothing is recorded; to enter `inference_mode` would only cost time."""
    items, scales, weights, miss, by_source = (
        torch.from_numpy(each)
        for each in (parts.items, parts.scales[:, None], parts.weights, parts.miss, parts.by_source)
    )
    user, at, pairs, dense = (
        torch.from_numpy(each) for each in (batch.user, batch.at, batch.pairs, batch.dense)
    )
    sources = torch.from_numpy(batch.sources.astype(np.int64))
    source, rows = sources[:, 0].contiguous(), len(at)
    steps, scale = torch.empty(rows, items.shape[1], dtype=torch.int8), torch.empty(rows, 1)
    of_items, of_pairs = torch.empty(steps.shape), torch.empty(pairs.shape)
    x, out = torch.empty(rows, len(weights)), torch.empty(rows, weights.shape[1])
    of_source = torch.empty(out.shape)

    def call() -> object:
        torch.index_select(items, 0, at, out=steps)
        torch.index_select(scales, 0, at, out=scale)
        torch.mul(steps, scale, out=of_items)
        torch.where(sources == _MISSING, miss, pairs, out=of_pairs)
        torch.cat((of_items, of_pairs, dense), 1, out=x)
        torch.addmm(user, x, weights, out=out)
        torch.index_select(by_source, 0, source, out=of_source)
        return out.add_(of_source).relu_()

    return call
