"""The foundation model: a user's history and one candidate item -> an embedding of the pair.

HSTU (Zhai et al. 2024, arXiv 2402.17152) as SOLARIS uses such a model (arXiv 2604.12110): several
tasks, an intermediate layer tapped, the tapped vector compressed by an auto-encoder that is trained
with everything else. The exact forms below are our choice.

  token       x = V[item] W_v + S[item] W_s + G[gap] + F W_f. S: statistics of the item in training.
              Events: F holds type bits and sines of position and time. Candidates: sines of where
              the history ends and what is known of the user.
  block       u, q, k, v = SiLU(W LN(x) + b)                                       HSTU Eq. 1
              a_i = 1/N sum_{j seen by i} SiLU(alpha q_i . k_j) v_j, alpha = d^-0.5      Eq. 2
              x <- x + W_o (LN(a) * u) + b_o                                             Eq. 3
  seen by     an event: the events up to itself; a candidate: the events before it and itself.
              Candidates never see each other (M-FALCON, section 3.4), nor do events see them.
  pair        z = tanh(LN(x_tap) W_z + b_z), the embedding: dim values in -1 .. 1
  auto-encoder  LN(x_tap) ~ z W_d + b_d, so z keeps what is there, beyond today's tasks
  tasks       sigmoid(LN(x_L) W_t + b_t), and from z alone, sigmoid(z W_y + b_y)

N is the model's length, never the batch's: a user's result does not depend on who else is there.
The learned item table is hashed, row 0 is no item. A history of more than N events: see
`foundation_tokens`. Everything here is plain torch, for whole sequences, in the parameters' dtype
(float64 too): the truth that `foundation_model` is held to, and what training differentiates.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from predawn.server.models.foundation_shape import FoundationShape, foundation_shape
from predawn.server.models.foundation_tokens import GAPS
from predawn.server.models.item_table import statistics_width
from predawn.server.models.snapshots import Tensors

EPS = 1e-6


class TokenBatch(NamedTuple):
    """Tokens of B users, T at most. items, gaps: int64 [B, T]; features: float [B, T, F];
    statistics: float [B, T, S] as they were at the time, None for those that the net keeps."""

    items: Tensor
    gaps: Tensor
    features: Tensor
    statistics: Tensor | None = None


class Pairs(NamedTuple):
    """What comes of C candidates a user. logits, compressed_logits: [B, C, tasks] from the last
    layer and from z; embedding z: [B, C, dim]; lost: [B, C] mean squared error of the
    auto-encoder."""

    logits: Tensor
    compressed_logits: Tensor
    embedding: Tensor
    lost: Tensor


class Block(nn.Module):
    """One HSTU layer (module docstring, Eq. 1-3)."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads

        def weight(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn((rows, columns), generator=generator) * columns**-0.5)

        self.norm_w = nn.Parameter(torch.ones(width))
        self.norm_b = nn.Parameter(torch.zeros(width))
        self.uqkv_w = weight(4 * width, width)
        self.uqkv_b = nn.Parameter(torch.zeros(4 * width))
        self.gate_w = nn.Parameter(torch.ones(width))
        self.gate_b = nn.Parameter(torch.zeros(width))
        self.out_w = weight(width, width)
        self.out_b = nn.Parameter(torch.zeros(width))

    def forward(
        self, history: Tensor, asked: Tensor, seen: Tensor, inv_n: float
    ) -> tuple[Tensor, Tensor]:
        """history [B, T, D], asked [B, C, D], seen: [B, C, T] 1 where a candidate sees an event."""
        alpha = (history.shape[2] // self.heads) ** -0.5
        u, q, k, v = self._project(history)
        u_asked, q_asked, k_asked, v_asked = self._project(asked)
        past = torch.ones(q.shape[2], q.shape[2], dtype=q.dtype, device=q.device).tril()
        attended = nn.functional.silu(q @ k.transpose(2, 3) * alpha) * past @ v
        weights = nn.functional.silu(q_asked @ k.transpose(2, 3) * alpha) * seen[:, None]
        own = nn.functional.silu((q_asked * k_asked).sum(-1, keepdim=True) * alpha)
        attended_asked = weights @ v + own * v_asked
        return (
            self._finish(history, attended * inv_n, u),
            self._finish(asked, attended_asked * inv_n, u_asked),
        )

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        normed = layer_norm(x, self.norm_w, self.norm_b)
        parts = nn.functional.silu(normed @ self.uqkv_w.t() + self.uqkv_b)
        shaped = parts.view(*x.shape[:2], 4, self.heads, x.shape[2] // self.heads)
        u, q, k, v = shaped.permute(2, 0, 3, 1, 4).unbind()
        return u, q, k, v

    def _finish(self, x: Tensor, attended: Tensor, u: Tensor) -> Tensor:
        flat, gate = (part.transpose(1, 2).flatten(2) for part in (attended, u))
        gated = layer_norm(flat, self.gate_w, self.gate_b) * gate
        return x + gated @ self.out_w.t() + self.out_b


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Over the last dimension, with `EPS`."""
    return nn.functional.layer_norm(x, x.shape[-1:], weight, bias, EPS)


class FoundationNet(nn.Module):
    """The parameters, and the model for whole sequences."""

    def __init__(self, shape: FoundationShape, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        width, tasks = shape.width, len(shape.tasks)

        def weight(rows: int, columns: int, scale: float | None = None) -> nn.Parameter:
            random = torch.randn((rows, columns), generator=generator)
            return nn.Parameter(random * (rows**-0.5 if scale is None else scale))

        items = torch.randn((1 + shape.item_rows, shape.item_width), generator=generator) * 0.3
        items[0] = 0
        self.items = nn.Embedding(len(items), shape.item_width, 0, _weight=items, sparse=True)
        self.item_in = weight(shape.item_width, width)
        known = torch.zeros((1 + shape.item_rows, statistics_width(tasks)))
        self.statistics = nn.Parameter(known, requires_grad=False)
        self.statistics_in = weight(statistics_width(tasks), width)
        self.gaps = weight(GAPS, width, 0.3)
        self.features_in = weight(shape.features, width, 0.3)
        self.blocks = nn.ModuleList(
            Block(width, shape.heads, generator) for _ in range(shape.layers)
        )
        self.encode_w = weight(width, shape.dim)
        self.encode_b = nn.Parameter(torch.zeros(shape.dim))
        self.decode_w = weight(shape.dim, width)
        self.decode_b = nn.Parameter(torch.zeros(width))
        self.tasks_w = weight(width, tasks, 0.0)
        self.tasks_b = nn.Parameter(torch.zeros(tasks))
        self.compressed_w = weight(shape.dim, tasks, 0.0)
        self.compressed_b = nn.Parameter(torch.zeros(tasks))

    def forward(self, history: TokenBatch, asked: TokenBatch, seen: Tensor) -> Pairs:
        """seen: int64 [B, C], how many tokens of its history each candidate sees.

        Padding: tokens behind those that a candidate sees do not matter to it, whatever they are.
        """
        x, y = self._embed(history), self._embed(asked)
        mask = torch.arange(x.shape[1], device=x.device) < seen[:, :, None]
        inv_n = 1.0 / self.shape.length
        tapped = y
        for number, block in enumerate(self.blocks, 1):
            x, y = block(x, y, mask.to(x.dtype), inv_n)
            tapped = y if number == self.shape.tap else tapped
        return self._heads(tapped, y)

    def _embed(self, tokens: TokenBatch) -> Tensor:
        known = self.statistics[tokens.items] if tokens.statistics is None else tokens.statistics
        items = self.items(tokens.items) @ self.item_in + known @ self.statistics_in
        embedded: Tensor = items + self.gaps[tokens.gaps] + tokens.features @ self.features_in
        return embedded

    def _heads(self, tapped: Tensor, last: Tensor) -> Pairs:
        normed = layer_norm(tapped)
        embedding = torch.tanh(normed @ self.encode_w + self.encode_b)
        decoded = embedding @ self.decode_w + self.decode_b
        return Pairs(
            layer_norm(last) @ self.tasks_w + self.tasks_b,
            embedding @ self.compressed_w + self.compressed_b,
            embedding,
            (decoded - normed.detach()).square().mean(dim=-1),
        )


def untrained_foundation(shape: FoundationShape, seed: int) -> FoundationNet:
    """Random weights, reproducible by seed."""
    return FoundationNet(shape, torch.Generator().manual_seed(seed))


def foundation_tensors(net: FoundationNet) -> Tensors:
    """What a snapshot keeps of a foundation model."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}


def foundation_net(described: dict[str, Any], tensors: Tensors) -> FoundationNet:
    """Rebuilds the net; KeyError, TypeError, RuntimeError when the parts do not fit together."""
    net = untrained_foundation(foundation_shape(described), seed=0)
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    net.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return net
