"""The SUM user tower (arXiv 2311.09544): a user's recent past -> K embeddings of D.

A function of the history alone: an embedding computed behind one request is right for the next.
Inference on the CPU runs in the shape's `precision`. The small one's is float64 (0.12 MFLOP a
user): sums then depend on the batch in no digit that survives rounding to the store's fp16, and
what is served is what was measured offline. The larger ones' is float32: 1.5e-5 of relative RMS
from float64, a fourteenth of the fp16 rounding. bfloat16 is not used: even in the channel MLPs
alone, where most of the time goes, it costs 1.8e-3, nine times that rounding. On a CUDA device
every size runs in float32, which `kernels.cross_lowrank` (Eq. 5, training included) takes.

SUM trains the tower through a mix tower, which mixes its embeddings with what is known of the
items, and then throws that away. Here the mix tower is `ranker_training.RankerNet`: small enough to
serve, so it is kept, as the light ranker.

X_0 in R^{n x d}: one token per bag (sum over its entries / sqrt(their number)) and `dense_tokens`
more from an MLP over the dense features; d = 16, n = 20 in the small configuration (the others:
`user_sizes`). Level l takes n tokens to m (20 -> 8 -> 4). Modules and equation numbers are SUM's,
as a re-implementation reports them; the exact forms, and that the modules are stacked, are our
choice:

  Eq. 2-4  dot compression with attention   A = softmax(Q (X W_k)^T / sqrt(d)) + M,   C = A X
           Q in R^{m' x d} learned queries, M in R^{m' x n} learned mixing, m' = m - 1
  Eq. 6-7  MLP-Mixer                        T = C + W_2 gelu(W_1 norm(C))   over tokens
                                            Y = T + gelu(norm(T) V_1) V_2   over channels, 4d wide
  Eq. 5    DCN-v2 cross of low rank r       Z = c * (U (V y) + b) + y,   c = flat(C), y = flat(Y)
  Eq. 1    X_l = norm(Concat(Z, X_dense) + R X_{l-1}),   R in R^{m x n}, X_dense one token

Output: E_k = W_k flat(X_L) + W'_k dense + b_k for each of K; the dense term, a last residual, hands
smoothed rates to the rankers as they are. The last one becomes g E_K + sum_h w(h) v(item_h), the
user's taste over the whole history, newest first: v are the item vectors that tower and ranker
share in training, w(h) a learned weight by event types and recency (h = 0, 1, 2-3, 4-7, ...), g a
learned scalar that starts small, or the taste would drown. So E_K . v(candidate) tells how the user
took to items like it, and to this very one. norm is RMSNorm.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from predawn.kernels import launch
from predawn.kernels.cross_lowrank import cross_lowrank
from predawn.server.models.device import Accelerator, Cuda
from predawn.server.models.device_graphs import GraphedRows
from predawn.server.models.device_staging import Column
from predawn.server.models.snapshots import Tensors
from predawn.server.models.user_bags import (
    StoredBags,
    TableDtype,
    dequantised,
    pooled_natively,
    stored_bags,
    table_rows,
)
from predawn.server.models.user_features import (
    FeatureShape,
    UserFeatures,
    shortened,
    user_features,
)
from predawn.server.request import F32, UserBatch

Precision = Literal["fp64", "fp32"]
BAGS, BAGS_SCALE = "bags.weight", "bags.scale"

_PRECISIONS = {"fp64": torch.float64, "fp32": torch.float32}
_RECENCIES = 6
_FIRST_GATE = 0.05
_STANDARD_LIMIT = 6.0  # standardised dense features are clipped: one wild attribute harms nobody


@dataclass(frozen=True, slots=True)
class TowerShape:
    """Small configuration by default. tokens: of each level after the first; outputs K x dim D;
    tables: dtype of the embedding tables as they serve; precision: of inference on the CPU."""

    features: FeatureShape
    width: int = 16
    dense_tokens: int = 4
    tokens: tuple[int, ...] = (8, 4)
    rank: int = 16
    outputs: int = 2
    output_dim: int = 32
    tables: TableDtype = "fp32"
    precision: Precision = "fp64"

    @property
    def dim(self) -> int:
        """Values per user."""
        return self.outputs * self.output_dim

    def describe(self) -> dict[str, Any]:
        """As JSON; `tower_shape` reads it back."""
        features = {name: getattr(self.features, name) for name in FeatureShape.__slots__}
        own = {name: getattr(self, name) for name in TowerShape.__slots__ if name != "features"}
        return {"features": features} | own


def tower_shape(described: dict[str, Any]) -> TowerShape:
    """Inverse of `TowerShape.describe`; KeyError and TypeError on anything else."""
    fields: dict[str, Any] = described | {"tokens": tuple(described["tokens"])}
    own = fields.pop("features")
    listed: dict[str, Any] = {
        name: tuple(own[name]) for name in ("windows", "smoothing") if name in own
    }
    features = FeatureShape(**own | listed)
    return TowerShape(features, **fields)


class State(NamedTuple):
    """Tensors of `UserFeatures`, same names and shapes; dense in the dtype to compute in."""

    slots: Tensor
    dense: Tensor
    items: Tensor
    bits: Tensor

    def take(self, rows: Tensor) -> "State":
        """Some of the users."""
        return State(*(tensor[rows] for tensor in self))


def as_state(features: UserFeatures) -> State:
    """Float64, on the CPU, sharing memory."""
    return State(*(torch.from_numpy(getattr(features, name)) for name in State._fields))


def recency_of(length: int) -> Tensor:
    """Class of each position: 0, 1, 2-3, 4-7, ... int64 [length]."""
    classes = [min(position.bit_length(), _RECENCIES - 1) for position in range(length)]
    return torch.tensor(classes)


class Level(nn.Module):
    """One level of the pyramid: n tokens -> m (Eq. 1-7). float [B, n, d] -> [B, m, d]."""

    def __init__(self, n: int, m: int, width: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        inner = m - 1
        flat = inner * width

        def weight(*size: int, fan_in: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(size, generator=generator) * fan_in**-0.5)

        self.queries = weight(inner, width, fan_in=1)
        self.key = weight(width, width, fan_in=width)
        self.mixing = weight(inner, n, fan_in=n)
        self.residual = weight(m, n, fan_in=n)
        self.token_up = weight(2 * inner, inner, fan_in=inner)
        self.token_down = weight(inner, 2 * inner, fan_in=2 * inner)
        self.channel_up = weight(width, 4 * width, fan_in=width)
        self.channel_down = weight(4 * width, width, fan_in=4 * width)
        self.cross_v = weight(flat, rank, fan_in=flat)
        self.cross_u = weight(rank, flat, fan_in=rank)
        self.cross_b = nn.Parameter(torch.zeros(flat))
        self.scales = nn.Parameter(torch.ones(3, width))

    def forward(self, x: Tensor, dense_token: Tensor) -> Tensor:
        compressed = self._attend(x)
        mixed = self._mix(compressed)
        start, flat = compressed.flatten(1), mixed.flatten(1)
        up, down = self.cross_u.t().unsqueeze(0), self.cross_v.unsqueeze(0)
        crossed = cross_lowrank(start, up, down, self.cross_b.unsqueeze(0), flat)
        interaction = torch.cat([crossed.view_as(compressed), dense_token], dim=1)
        return rms_norm(interaction + self.residual @ x, self.scales[2])

    def _attend(self, x: Tensor) -> Tensor:
        logits = self.queries @ (x @ self.key).transpose(1, 2) * x.shape[2] ** -0.5
        attended: Tensor = (logits.softmax(dim=2) + self.mixing) @ x
        return attended

    def _mix(self, compressed: Tensor) -> Tensor:
        normed = rms_norm(compressed, self.scales[0])
        tokens = compressed + self.token_down @ nn.functional.gelu(self.token_up @ normed)
        normed = rms_norm(tokens, self.scales[1])
        return tokens + nn.functional.gelu(normed @ self.channel_up) @ self.channel_down


def rms_norm(x: Tensor, scale: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-6) * scale over the last dimension."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6) * scale


class TowerNet(nn.Module):
    """The parameters. mean, std: of the dense features in training, not learned.

    stored: tables to serve with; without them new ones, to be trained."""

    def __init__(
        self, shape: TowerShape, generator: torch.Generator, stored: StoredBags | None = None
    ) -> None:
        super().__init__()
        self.shape = shape
        self._recencies: dict[int, Tensor] = {}
        dense, width = shape.features.dense, shape.width
        self.stored = stored
        if stored is None:
            self.bags = _new_bags(shape, generator)
        items = torch.randn((1 + shape.features.item_rows, shape.output_dim), generator=generator)
        items *= shape.output_dim**-0.5
        items[0] = 0
        self.items = nn.Embedding(len(items), shape.output_dim, 0, _weight=items, sparse=True)
        self.taste = nn.Parameter(torch.full((shape.features.types, _RECENCIES), 0.5))
        self.taste.data[0] = 0.0
        self.mean = nn.Parameter(torch.zeros(dense), requires_grad=False)
        self.std = nn.Parameter(torch.ones(dense), requires_grad=False)
        hidden = 4 * width

        def weight(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn((rows, columns), generator=generator) * rows**-0.5)

        self.dense_in = weight(dense, hidden)
        self.dense_bias = nn.Parameter(torch.zeros(hidden))
        self.dense_out = weight(hidden, (shape.dense_tokens + 1) * width)
        counts = (shape.features.tables + shape.dense_tokens, *shape.tokens)
        self.levels = nn.ModuleList(
            Level(n, m, width, shape.rank, generator) for n, m in pairwise(counts)
        )
        self.head = weight(counts[-1] * width, shape.dim)
        self.head_dense = weight(dense, shape.dim)
        self.gate = nn.Parameter(torch.tensor(_FIRST_GATE))
        self.head_bias = nn.Parameter(torch.zeros(shape.dim))

    def forward(self, state: State) -> Tensor:
        """float [B, dim] in the dtype of `state.dense`."""
        slots, dense = state.slots, state.dense
        bags = self._bags_of(slots, dense.dtype)
        present = (slots > 0).sum(dim=2, keepdim=True).clamp(min=1)
        standard = ((dense - self.mean) / self.std).clamp(-_STANDARD_LIMIT, _STANDARD_LIMIT)
        hidden = nn.functional.gelu(standard @ self.dense_in + self.dense_bias)
        tokens = (hidden @ self.dense_out).view(len(dense), -1, self.shape.width)
        x = torch.cat([bags * present.to(dense.dtype).rsqrt(), tokens[:, :-1]], dim=1)
        for level in self.levels:
            x = level(x, tokens[:, -1:])
        out = x.flatten(1) @ self.head + standard @ self.head_dense + self.head_bias
        width = self.shape.output_dim
        last = self.gate * out[:, -width:] + self._taste(state)
        return torch.cat([out[:, :-width], last], dim=1)

    def _bags_of(self, slots: Tensor, dtype: torch.dtype) -> Tensor:
        if self.stored is not None:
            return self.stored.pooled(slots, dtype)
        sums: Tensor = self.bags(slots).to(dtype).sum(dim=2)
        return sums

    def _taste(self, state: State) -> Tensor:
        """sum_h w(h) v(item_h). [B, D]"""
        recency = self._recency(state.items.shape[1], state.items.device)
        by_event = self.taste[:, recency]  # [types, H]
        weights = torch.einsum("bht,th->bh", state.bits.to(by_event.dtype), by_event)
        if self.stored is not None and not weights.is_cuda and weights.dtype == torch.float32:
            return pooled_natively(self.items.weight, state.items, weights=weights)
        items = self.items(state.items).to(by_event.dtype)
        taste: Tensor = (weights[:, None] @ items).squeeze(1)
        return taste

    def _recency(self, length: int, device: torch.device) -> Tensor:
        """On a device it stays there: a captured graph must not copy from the host."""
        if device.type == "cpu":
            return recency_of(length)
        if length not in self._recencies:
            self._recencies[length] = recency_of(length).to(device)
        return self._recencies[length]


def _new_bags(shape: TowerShape, generator: torch.Generator) -> nn.Embedding:
    rows = 1 + shape.features.tables * shape.features.rows
    weight = torch.randn((rows, shape.width), generator=generator) * 0.05
    weight[0] = 0
    return nn.Embedding(rows, shape.width, padding_idx=0, _weight=weight, sparse=True)


class UserTower:
    """A `UserModel`: features on the CPU, the network on `device`. Takes the network over: its
    tables become those of serving, its parameters those of inference."""

    def __init__(
        self,
        net: TowerNet,
        prior: F32,
        device: str = "cpu",
        accelerator: Accelerator | None = None,
        length: int | None = None,
    ) -> None:
        """accelerator: of `device`; None: the device's own, none on a CPU or without Triton, whose
        kernels alone can be captured. length: events that it was trained with, of a longer history
        it reads no others; None: all."""
        self._length = length
        self._device = torch.device(device)
        if accelerator is None and self._device.type == "cuda" and launch.has_triton():
            accelerator = Cuda(self._device)
        self._accelerator = accelerator
        self._graphed: GraphedRows | None = None
        on_cpu = self._device.type == "cpu"
        self._dtype = _PRECISIONS[net.shape.precision] if on_cpu else torch.float32
        if net.stored is None:
            net.stored = stored_bags(net.bags.weight, net.shape.features.tables, net.shape.tables)
            del net.bags
        self._net = net.to(self._device).eval()
        for name, parameter in self._net.named_parameters():
            if not name.startswith("items."):  # a table is only gathered from
                parameter.data = parameter.data.to(self._dtype)
        self._prior = prior.astype(np.float64)

    @property
    def dim(self) -> int:
        """Values per user."""
        return self._net.shape.dim

    def embed(self, batch: UserBatch) -> F32:
        """float32 [B, dim], finite; row b depends on user b alone, for any batch size.

        ValueError when the batch has other types or attributes than the model was trained on.
        """
        return self.embed_features(self._features(batch))

    def _features(self, batch: UserBatch) -> UserFeatures:
        shown = batch if self._length is None else shortened(batch, self._length)
        return user_features(shown, self._net.shape.features, self._prior)

    @torch.inference_mode()
    def embed_features(self, features: UserFeatures) -> F32:
        """The same from features that are already there (training's evaluation)."""
        state = as_state(features)
        graphed = self._graphed
        if graphed is not None and graphed.fits(state._asdict()):
            return graphed.run(state._asdict())
        state = State(*(tensor.to(self._device) for tensor in state))
        state = state._replace(dense=state.dense.to(self._dtype))
        out: F32 = self._net(state).float().cpu().numpy()
        return out

    @torch.inference_mode()
    def prepare(self, example: UserBatch) -> None:
        """Captures on a device what batches of up to the example's size will need, with its length
        of histories. Called before the first batch; on a CPU there is nothing to do."""
        if self._accelerator is None:
            return
        state = as_state(self._features(example))
        state = state._replace(dense=state.dense.to(self._dtype))
        columns = [Column(n, tuple(t.shape[1:]), t.dtype) for n, t in state._asdict().items()]
        self._graphed = GraphedRows(
            self._accelerator,
            lambda inputs: self._net(State(**inputs)).float(),
            columns,
            self.dim,
            len(example.users),
        )


def untrained_tower(shape: TowerShape, seed: int) -> TowerNet:
    """Random weights, reproducible by seed."""
    return TowerNet(shape, torch.Generator().manual_seed(seed))


def tower_tensors(net: TowerNet, prior: F32) -> Tensors:
    """What a snapshot keeps of a trained network: its tables in the shape's dtype."""
    state = {name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}
    rows, scale = table_rows(net.bags.weight.detach().cpu(), net.shape.tables)
    state |= {BAGS: rows.numpy(), "prior": prior.astype(np.float32)}
    return state if scale is None else state | {BAGS_SCALE: scale.numpy()}


def tower_from_tensors(
    described: dict[str, Any], tensors: Tensors, device: str, length: int | None = None
) -> UserTower:
    """Rebuilds a tower; KeyError, TypeError, RuntimeError when the parts do not fit together."""
    shape = tower_shape(described)
    state = {name: torch.from_numpy(array) for name, array in tensors.items() if name != "prior"}
    if BAGS not in state:
        raise RuntimeError(f"Missing tensor {BAGS}")
    rows, scale = state.pop(BAGS), state.pop(BAGS_SCALE, None)
    stored = StoredBags(rows, scale, shape.features.tables)
    net = TowerNet(shape, torch.Generator().manual_seed(0), stored)
    net.load_state_dict(state)
    return UserTower(net, tensors["prior"], device, length=length)


def trainable_tower(described: dict[str, Any], tensors: Tensors) -> TowerNet:
    """The same as a network to train further, tables in float32. The same errors."""
    net = untrained_tower(tower_shape(described), seed=0)
    state = {name: torch.from_numpy(array) for name, array in tensors.items() if name != "prior"}
    state[BAGS] = dequantised(state[BAGS], state.pop(BAGS_SCALE, None))
    net.load_state_dict(state)
    return net
