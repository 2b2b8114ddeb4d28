"""The torch twin of `ranker.Ranker`: same formula, same names, with gradients.

Trains; never serves. A test holds the two equal to 1e-5.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from predawn.server.models.item_table import ItemTable, statistics_width
from predawn.server.models.ranker import Encoding, RankerShape
from predawn.server.models.snapshots import Tensors
from predawn.server.request import F32, Source


@dataclass(frozen=True, slots=True)
class Candidates:
    """R rows. embedding: int64 [R], `embedding_rows`; seen: float32 [R], 1 where the item was;
    statistics: float32 [R, S], standardised; dense: float32 [R, F * bins], encoded."""

    embedding: Tensor
    seen: Tensor
    statistics: Tensor
    dense: Tensor

    def take(self, rows: Tensor) -> "Candidates":
        """Some of the rows."""
        return Candidates(
            self.embedding[rows], self.seen[rows], self.statistics[rows], self.dense[rows]
        )


class RankerNet(nn.Module):
    """Parameters of the ranker. Reproducible by the generator.

    vectors: the item vectors [embedding_rows + 1, embedding], shared with the tower in training.
    """

    def __init__(
        self, shape: RankerShape, vectors: nn.Embedding, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.shape = shape
        hidden, tasks, last = shape.hidden, len(shape.tasks), shape.mlp_2 or shape.mlp

        def weight(rows: int, columns: int, layers: int = 1) -> nn.Parameter:
            scale = max(rows, 1) ** -0.5
            return nn.Parameter(torch.randn((layers * rows, columns), generator=generator) * scale)

        self.user = weight(shape.user - shape.embedding, hidden)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.source = nn.Parameter(torch.zeros(shape.user_models * len(Source), hidden))
        self.item = weight(shape.embedding, hidden)
        self.match = weight(1, hidden)
        self.statistics = weight(statistics_width(tasks), hidden)
        self.dense = weight(len(shape.item_features) * shape.bins, hidden)
        self.cross_v = weight(hidden, shape.rank, shape.crosses)
        self.cross_u = weight(shape.rank, hidden, shape.crosses)
        self.cross_b = nn.Parameter(torch.zeros(shape.crosses * hidden))
        self.mlp = weight(hidden, shape.mlp)
        self.mlp_b = nn.Parameter(torch.zeros(shape.mlp))
        self.out = weight(last, tasks)
        self.out_b = nn.Parameter(torch.zeros(tasks))
        if shape.mlp_2:
            self.mlp_2 = weight(shape.mlp, shape.mlp_2)
            self.mlp_2_b = nn.Parameter(torch.zeros(shape.mlp_2))
        if shape.pair_models:
            self.pair = weight(shape.pair, hidden)
            self.miss = nn.Parameter(torch.zeros(shape.pair))
            self.pair_source = nn.Parameter(torch.zeros(shape.pair_models * len(Source), hidden))
        self.embedding = vectors

    def forward(
        self,
        user: Tensor,
        sources: Tensor,
        request: Tensor,
        candidates: Candidates,
        pairs: Tensor | None = None,
        pair_sources: Tensor | None = None,
    ) -> Tensor:
        """Logits [R, tasks]. user: [U, dim]; sources: int64 [U, models]; request: int64 [R].

        pairs: [R, pair], anything finite where the source is DEFAULT; pair_sources: int64
        [R, pair models], `Source`. Without them every pair counts as missing.
        """
        width = self.shape.embedding
        general, taste = user[:, :-width], user[:, -width:]
        user_part = general @ self.user + _of_sources(self.source, sources) + self.bias
        vectors = self.embedding(candidates.embedding)
        match = (taste[request] * vectors).sum(dim=1, keepdim=True)
        x = user_part[request] + (vectors @ self.item) * candidates.seen[:, None]
        x = x + match * self.match
        x = x + candidates.statistics @ self.statistics + candidates.dense @ self.dense
        if self.shape.pair_models:
            x = x + self._pair_part(len(request), pairs, pair_sources)
        hidden = torch.relu(self._crossed(x) @ self.mlp + self.mlp_b)
        if self.shape.mlp_2:
            hidden = torch.relu(hidden @ self.mlp_2 + self.mlp_2_b)
        return hidden @ self.out + self.out_b

    def _pair_part(self, rows: int, pairs: Tensor | None, pair_sources: Tensor | None) -> Tensor:
        """[R, hidden]. The learned miss vector stands in for a pair embedding that is not there."""
        if pairs is None or pair_sources is None:
            pairs = self.miss.new_zeros((rows, self.shape.pair))
            pair_sources = torch.full((rows, self.shape.pair_models), int(Source.DEFAULT))
        dims = torch.tensor(self.shape.dims_of_pairs())
        is_missing = (pair_sources == Source.DEFAULT).repeat_interleave(dims, dim=1)
        known = torch.where(is_missing, self.miss, pairs)
        return known @ self.pair + _of_sources(self.pair_source, pair_sources)

    def _crossed(self, first: Tensor) -> Tensor:
        """x_l+1 = x_0 * (U_l (V_l x_l) + c_l) + x_l."""
        crosses = self.shape.crosses
        layers = zip(
            self.cross_v.chunk(crosses),
            self.cross_u.chunk(crosses),
            self.cross_b.chunk(crosses),
            strict=True,
        )
        x = first
        for v, u, b in layers:
            x = first * (x @ v @ u + b) + x
        return x


def _of_sources(part: Tensor, sources: Tensor) -> Tensor:
    """Sum of the one-hot parts. part: [models * sources, hidden]; sources: int64 [n, models]."""
    columns = torch.arange(sources.shape[1]) * len(Source)
    return part[sources + columns].sum(dim=1)


@dataclass(frozen=True, slots=True)
class Standard:
    """Mean and standard deviation of the item statistics in training. float32 [S] each."""

    mean: F32
    std: F32


def fit_standard(statistics: F32) -> Standard:
    """Of the columns; a constant column keeps its scale."""
    std = statistics.std(axis=0)
    return Standard(statistics.mean(axis=0), np.where(std > 1e-6, std, 1).astype(np.float32))


def ranker_tensors(
    net: RankerNet, items: ItemTable, encoding: Encoding, standard: Standard
) -> Tensors:
    """What a snapshot keeps of a ranker."""
    tensors: Tensors = {
        name.removesuffix(".weight"): parameter.detach().numpy()
        for name, parameter in net.named_parameters()
    }
    for name, part in (("items", items), ("encoding", encoding), ("statistics", standard)):
        tensors |= {f"{name}.{field}": getattr(part, field) for field in type(part).__slots__}
    return tensors


def untrained_ranker(shape: RankerShape, vectors: nn.Embedding, seed: int) -> RankerNet:
    """Random weights, reproducible by seed, over a tower's item vectors."""
    return RankerNet(shape, vectors, torch.Generator().manual_seed(seed))
