"""The light ranker: user embeddings and candidates -> one probability per candidate and task.

No torch: it runs inside the request, on the event loop's thread, and a server starts without
waiting for torch. Its arithmetic is native (csrc/first_layer.hpp, csrc/cross_network.hpp).

Layer 1 is split by its inputs, so nothing is computed twice:
  user part   W_u [E_1 .. | one-hot source of each] + b       once per request, for all its rows
  item part   W_s [item statistics] + W_i v                   once per snapshot: a table to gather
  rest        w_m (E_K . v) + W_d pwl(features) + W_p [P_1 ..] + one-hot source of each P
E_K, the last embedding, is in the space of the items' vectors v and serves for that match alone:
how well a candidate fits what the user took to. v comes from a hashed table; items not seen in
training have one, too, that means nothing by itself (W_i v is left out) but tells items apart.
P_1 .. are the embeddings of the pair of user and candidate, one a pair model. Where one is not
there (source DEFAULT) a learned vector stands in for it; its part of the layer is computed once
per snapshot.
Then DCN-v2 crosses x_l+1 = x_0 * (U_l (V_l x_l) + c_l) + x_l, one or two hidden layers, a sigmoid
per task.
pwl: each feature becomes `bins` numbers in 0..1 between its training quantiles on a log scale
(Gorishniy et al. 2022, arXiv 2203.05556), less their mean; a missing feature is that mean.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from predawn.csrc import _layers
from predawn.server.models.item_table import ItemTable, embedding_rows
from predawn.server.models.snapshots import Tensors
from predawn.server.request import F32, RankBatch, Source


@dataclass(frozen=True, slots=True)
class RankerShape:
    """Sizes of a ranker; `of_size` has four sets of them, the defaults are "small".

    user: sum of the user models' dims, in their order; the last `embedding` values are E_K.
    pair: sum of the pair models' dims, in their order, 0 for a ranker that reads none; pair_dims:
    the dim of each, () where all have the same. mlp_2: a second hidden layer, 0 for none.
    """

    tasks: tuple[str, ...]
    item_features: tuple[str, ...]
    user: int
    user_models: int = 1
    embedding: int = 32
    embedding_rows: int = 16_384
    bins: int = 8
    hidden: int = 64
    rank: int = 16
    mlp: int = 32
    crosses: int = 1
    mlp_2: int = 0
    pair: int = 0
    pair_models: int = 0
    pair_dims: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """ValueError where the pair models' dims do not add up."""
        dims = self.dims_of_pairs()
        if len(dims) != self.pair_models or sum(dims) != self.pair or min(dims, default=1) < 1:
            raise ValueError(
                f"{self.pair_models} pair models of dims {self.pair_dims} are not {self.pair} wide"
            )

    @classmethod
    def of_size(
        cls, size: str, tasks: tuple[str, ...], item_features: tuple[str, ...], **dims: Any
    ) -> "RankerShape":
        """One of `RANKER_SIZES`; dims: `user`, `embedding` and whatever else follows from the
        models that it reads. KeyError on another size."""
        sizes: dict[str, Any] = {**RANKER_SIZES[size], **dims}
        return cls(tasks, item_features, **sizes)

    def dims_of_pairs(self) -> tuple[int, ...]:
        """The dim of each pair model."""
        if self.pair_dims or not self.pair_models:
            return self.pair_dims
        return (self.pair // self.pair_models,) * self.pair_models

    def describe(self) -> dict[str, Any]:
        """As JSON; `ranker_shape` reads it back."""
        return {name: getattr(self, name) for name in RankerShape.__slots__}


RANKER_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden": 32, "crosses": 1, "rank": 8, "mlp": 16},
    "small": {"hidden": 64, "crosses": 1, "rank": 16, "mlp": 32},
    "medium": {"hidden": 256, "crosses": 2, "rank": 64, "mlp": 128, "mlp_2": 64},
    "large": {"hidden": 512, "crosses": 3, "rank": 128, "mlp": 256, "mlp_2": 128},
}
"""Widths by size, without what a ranker's inputs decide."""


def ranker_shape(described: dict[str, Any]) -> RankerShape:
    """Inverse of `RankerShape.describe`, also for what had fewer members; KeyError, TypeError and
    ValueError on anything else."""
    names: dict[str, Any] = {key: tuple(described[key]) for key in ("tasks", "item_features")}
    names["pair_dims"] = tuple(described.get("pair_dims", ()))
    return RankerShape(**(described | names))


@dataclass(frozen=True, slots=True)
class Encoding:
    """Piecewise-linear encoding. low, width, mean: float32 [F, bins]."""

    low: F32
    width: F32
    mean: F32

    def encode(self, features: F32) -> F32:
        """float32 [R, F] -> [R, F * bins]; exactly 0 stands for "missing" and gives zeros."""
        encoded: F32 = np.empty((len(features), self.low.size), dtype=np.float32)
        _layers.encode(np.ascontiguousarray(features), self.low, self.width, self.mean, encoded)
        return encoded


def fit_encoding(features: F32, bins: int) -> Encoding:
    """Bins between the quantiles of each column's non-zero values. features: float32 [R, F]."""
    edges = np.zeros((features.shape[1], bins + 1), np.float32)
    for column, values in enumerate(features.T):
        present = _log_scale(values[values != 0])
        if len(present):
            edges[column] = np.quantile(present, np.linspace(0, 1, bins + 1))
    low, width = edges[:, :-1].copy(), np.maximum(np.diff(edges, axis=1), np.float32(1e-3))
    flat = (
        Encoding(low, width, np.zeros_like(low)).encode(features).reshape(len(features), *low.shape)
    )
    present_rows = np.maximum((features != 0).sum(axis=0), 1)[:, None]
    return Encoding(low, width, (flat.sum(axis=0) / present_rows).astype(np.float32))


def _log_scale(values: F32) -> F32:
    scaled: F32 = np.sign(values) * np.log1p(np.abs(values))
    return scaled


def with_all_sources(tensors: Tensors, shape: RankerShape) -> Tensors:
    """A ranker's arrays with a row of layer 1 for each `Source`. One that was trained when there
    were fewer takes a later source (RECENT) for USER_MEAN. KeyError or ValueError when the arrays
    do not fit the shape."""
    whole = {"source": _source_rows(tensors["source"], shape.user_models)}
    if shape.pair_models:
        whole["pair_source"] = _source_rows(tensors["pair_source"], shape.pair_models)
    return {**tensors, **whole}


def _source_rows(part: F32, models: int) -> F32:
    by_model = part.reshape(models, -1, part.shape[1])
    missing = max(0, len(Source) - by_model.shape[1])
    like = by_model[:, Source.USER_MEAN : Source.USER_MEAN + 1]
    whole = np.concatenate([by_model, np.repeat(like, missing, axis=1)], axis=1)
    rows: F32 = whole.reshape(-1, part.shape[1])
    return rows


class Ranker:
    """A `RankerModel` from a snapshot's arrays (names as in `ranker_training.RankerNet`)."""

    inline = True

    def __init__(self, shape: RankerShape, tensors: Tensors) -> None:
        """KeyError or ValueError when the arrays do not fit the shape."""
        self.tasks = shape.tasks
        self.item_features = shape.item_features
        self._shape = shape
        tensors = with_all_sources(tensors, shape)
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        self._items = ItemTable(
            *(tensors[f"items.{name}"] for name in ("hashes", "sums", "counts", "prior"))
        )
        self._encoding = Encoding(
            *(tensors[f"encoding.{name}"] for name in ("low", "width", "mean"))
        )
        self._bias = tensors["bias"]
        self._user_layer = _user_layer(tensors, shape)
        self._first_layer = _first_layer(
            _project_items(self._items, tensors, shape), tensors, shape
        )
        self._network = _network(tensors, shape)

    def score(self, batch: RankBatch) -> F32:
        """float32 [R, tasks] in 0..1; a row depends on its own request and candidate alone, bit by
        bit. ValueError when a dimension of the batch is not the one trained on.
        """
        self._check(batch)
        rows, shape = len(batch.item_hashes), self._shape
        first: F32 = np.empty((rows, shape.hidden), dtype=np.float32)
        has_pairs, has_dense = bool(shape.pair_models), bool(self.item_features)
        self._first_layer.run(
            first,
            batch.offsets,
            self._user_part(batch),
            np.ascontiguousarray(batch.user[:, -shape.embedding :]),
            self._items.find(batch.item_hashes),
            embedding_rows(batch.item_hashes, shape.embedding_rows),
            batch.pairs if has_pairs else None,
            batch.pair_sources if has_pairs else None,
            self._encoding.encode(batch.item_features) if has_dense else None,
        )
        probabilities: F32 = np.empty((rows, len(self.tasks)), dtype=np.float32)
        self._network.run(first, probabilities)
        return probabilities

    def _user_part(self, batch: RankBatch) -> F32:
        """The user part of layer 1, computed once per request: [U, hidden]."""
        requests = len(batch.user)
        part: F32 = np.empty((requests, self._shape.hidden), dtype=np.float32)
        self._user_layer.run(
            part,
            np.arange(requests + 1),
            self._bias[None] if requests == 1 else np.tile(self._bias, (requests, 1)),
            pair_sources=batch.sources,
            dense=np.ascontiguousarray(batch.user[:, : -self._shape.embedding]),
        )
        return part

    def _check(self, batch: RankBatch) -> None:
        shape = self._shape
        got = (batch.user.shape[1], batch.item_features.shape[1])
        expected = (shape.user, len(self.item_features))
        if got != expected:
            raise ValueError(
                f"got {got[0]} user values and {got[1]} item features, expected {expected}"
            )
        pairs, rows = (batch.pairs.shape, batch.pair_sources.shape), len(batch.item_hashes)
        if shape.pair_models and pairs != ((rows, shape.pair), (rows, shape.pair_models)):
            raise ValueError(
                f"got pairs {pairs[0]} and their sources {pairs[1]}, expected {rows} rows of "
                f"{shape.pair} and {shape.pair_models}"
            )


def _user_layer(tensors: Tensors, shape: RankerShape) -> _layers.GatherL1:
    """W_u: the embeddings but the last are its dense inputs, and a one-hot source each."""
    expected = (shape.user - shape.embedding, shape.hidden)
    if tensors["user"].shape != expected:
        raise ValueError(f"user weights are {tensors['user'].shape}, expected {expected}")
    return _layers.GatherL1(
        tensors["user"],
        pair_dims=[0] * shape.user_models,
        source_part=tensors["source"],
        dense=expected[0],
    )


def _first_layer(item_part: F32, tensors: Tensors, shape: RankerShape) -> _layers.GatherL1:
    """Everything but W_u."""
    names = (*["pair"] * bool(shape.pair_models), "dense")
    return _layers.GatherL1(
        np.concatenate([tensors[name] for name in names]),
        projected=item_part,
        vectors=tensors["embedding"],
        match=tensors["match"].reshape(-1),
        pair_dims=shape.dims_of_pairs(),
        source_part=_pair_source_part(tensors, shape) if shape.pair_models else None,
        missing_source=int(Source.DEFAULT),
        dense=len(shape.item_features) * shape.bins,
    )


def _pair_source_part(tensors: Tensors, shape: RankerShape) -> F32:
    """One row a pair model and source; that of DEFAULT with what the miss vector is worth."""
    part = tensors["pair_source"].reshape(shape.pair_models, len(Source), shape.hidden).copy()
    ends = np.cumsum(shape.dims_of_pairs())
    for model, (end, dim) in enumerate(zip(ends, shape.dims_of_pairs(), strict=True)):
        own = slice(end - dim, end)
        part[model, Source.DEFAULT] += tensors["miss"][own] @ tensors["pair"][own]
    rows: F32 = part.reshape(-1, shape.hidden)
    return rows


def _network(tensors: Tensors, shape: RankerShape) -> _layers.CrossNetwork:
    """The crosses and the hidden layers."""
    v = tensors["cross_v"].reshape(shape.crosses, shape.hidden, shape.rank)
    u = tensors["cross_u"].reshape(shape.crosses, shape.rank, shape.hidden)
    b = tensors["cross_b"].reshape(shape.crosses, shape.hidden)
    names = ("mlp", *["mlp_2"] * bool(shape.mlp_2), "out")
    layers = [(tensors[name], tensors[f"{name}_b"]) for name in names]
    return _layers.CrossNetwork(shape.hidden, list(zip(v, u, b, strict=True)), layers)


def _project_items(items: ItemTable, tensors: Tensors, shape: RankerShape) -> F32:
    """The item part of layer 1 for every known item; last, the one of unseen items."""
    standard = (items.features() - tensors["statistics.mean"]) / tensors["statistics.std"]
    projected = standard @ tensors["statistics"]
    vectors = tensors["embedding"][embedding_rows(items.hashes, shape.embedding_rows)]
    projected[:-1] += vectors @ tensors["item"]
    return np.ascontiguousarray(projected, dtype=np.float32)
