"""The cases of the kernels that look rows up: `gather_l1` and `score_topk`.

As in gpu_cases.py: a case knows `kernel`, `plain` (torch, same dtype) and `truth` (float64), and
what any implementation must move and compute.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from predawn.bench.gpu_cases import TOLERANCE, Case, distinct
from predawn.kernels.gather_l1 import Gathered, gather_l1_reference
from predawn.kernels.gather_l1_triton import gather_l1_triton
from predawn.kernels.score_topk import score_topk_reference
from predawn.kernels.score_topk_triton import score_topk_triton

SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int8: "int8"}


@dataclass(frozen=True, slots=True)
class GatherShape:
    """`gather_l1`: R rows of Di + P + F inputs to h outputs, from tables of `table` rows.

    One row in four has no pair. item_dtype int8 comes with a scale for each row.
    """

    rows: int
    item: int
    pair: int
    dense: int
    hidden: int
    table: int = 100_000
    dtype: torch.dtype = torch.bfloat16
    item_dtype: torch.dtype = torch.int8
    relu: bool = True


@dataclass(frozen=True, slots=True)
class TopkShape:
    """`score_topk`: the K best of I items for each of U users, vectors of p."""

    users: int
    items: int
    width: int
    k: int
    dtype: torch.dtype = torch.bfloat16


GATHERS = (
    GatherShape(64, 128, 128, 32, 256),
    GatherShape(512, 32, 32, 8, 64, dtype=torch.float32),
    GatherShape(512, 128, 128, 32, 256),
    GatherShape(512, 256, 128, 64, 512),
    GatherShape(4096, 256, 128, 64, 512),
    GatherShape(32768, 256, 128, 64, 512),
    GatherShape(32768, 256, 128, 64, 512, item_dtype=torch.float16),
)
TOPKS = (
    TopkShape(1024, 4096, 64, 64),
    TopkShape(16, 1_000_000, 64, 64),
    TopkShape(1024, 1_000_000, 64, 64),
    TopkShape(1024, 1_000_000, 64, 256),
    TopkShape(16, 1_000_000, 128, 64, torch.float32),
)


def draws(device: str, seed: int) -> Callable[..., Tensor]:
    """normal(*size, scale): seeded values of that standard deviation, float32."""
    dice = torch.Generator(device=device).manual_seed(seed)

    def normal(*size: int, scale: float = 1.0) -> Tensor:
        return torch.randn(size, generator=dice, device=device) * scale

    return normal


def gather_inputs(shape: GatherShape, device: str, seed: int = 0) -> Gathered:
    """The operation's arguments up to `source`: outputs of about unit size, all ids good."""
    normal = draws(device, seed)
    dice = torch.Generator(device=device).manual_seed(seed + 1)

    def ids(size: int) -> Tensor:
        return torch.randint(0, size, (shape.rows,), generator=dice, device=device)

    total, dtype = shape.item + shape.pair + shape.dense, shape.dtype
    items, scale = normal(shape.table, shape.item), None
    if shape.item_dtype == torch.int8:
        scale = items.abs().amax(1).clamp(min=1e-6) / 127
        items = (items / scale[:, None]).round()
    pair = ids(shape.table)
    pair[::4] = -1
    users = max(1, shape.rows // 512)

    def weight(inputs: int) -> Tensor:
        return normal(inputs, shape.hidden, scale=total**-0.5).to(dtype)

    return Gathered(
        normal(users, shape.hidden).to(dtype),
        torch.arange(shape.rows, device=device) * users // shape.rows,
        items.to(shape.item_dtype),
        scale,
        ids(shape.table),
        normal(shape.table, shape.pair).half(),
        pair,
        normal(shape.pair).to(dtype),
        normal(shape.rows, shape.dense).to(dtype),
        weight(shape.item),
        weight(shape.pair),
        weight(shape.dense),
        normal(3, shape.hidden).to(dtype),
        ids(3).to(torch.uint8),
    )


def gather_case(shape: GatherShape, device: str, seed: int = 0) -> Case:
    """Peers: the reference (three products), and rows made whole first, then one product."""
    g = gather_inputs(shape, device, seed)
    whole = torch.cat([g.w_item, g.w_pair, g.w_dense])

    def plain() -> Tensor:
        return gather_l1_reference(g, shape.relu)

    def concatenated() -> Tensor:
        rows, dtype = g.items[g.item].to(shape.dtype), shape.dtype
        if g.item_scale is not None:
            rows = rows * g.item_scale[g.item].to(dtype)[:, None]
        found = g.pairs[g.pair.clamp(min=0)].to(dtype)
        pair_rows = torch.where((g.pair < 0)[:, None], g.miss, found)
        user_rows = g.user_part[g.row_user]
        out = torch.addmm(user_rows, torch.cat([rows, pair_rows, g.dense], 1), whole)
        if g.source_part is not None and g.source is not None:
            out = out + g.source_part[g.source.long()]
        return torch.relu(out) if shape.relu else out

    def truth() -> Tensor:
        named = {name: t for name, t in g._asdict().items() if t is not None}
        wide = {name: t.double() for name, t in named.items() if t.is_floating_point()}
        return gather_l1_reference(g._replace(**wide), shape.relu)

    inputs = shape.item + shape.pair + shape.dense
    size, item_size = shape.dtype.itemsize, shape.item_dtype.itemsize
    items, pairs = distinct(g.item), distinct(g.pair[g.pair >= 0])
    read = items * shape.item * item_size + pairs * shape.pair * 2
    row = (shape.dense + shape.hidden) * size + 32
    name = f"gather_l1 {SHORT[shape.dtype]} {SHORT[shape.item_dtype]} R{shape.rows} in{inputs}"
    return Case(
        name=f"{name} h{shape.hidden}",
        kernel=lambda: gather_l1_triton(*g, shape.relu),
        plain=plain,
        truth=truth,
        peers={"eager": plain, "concatenated": concatenated},
        bytes=read + shape.rows * row + inputs * shape.hidden * size,
        flop=2 * shape.rows * inputs * shape.hidden,
        tolerance=TOLERANCE[shape.dtype],
    )


def topk_inputs(shape: TopkShape, device: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(users, items, bias): scores of about unit size."""
    normal = draws(device, seed)
    users = normal(shape.users, shape.width, scale=shape.width**-0.5).to(shape.dtype)
    items = normal(shape.items, shape.width).to(shape.dtype)
    return users, items, normal(shape.items, scale=0.1)


def topk_case(shape: TopkShape, device: str, seed: int = 0) -> Case:
    """Its result is the scores. The peer's scores are rounded to the dtype of the vectors, which
    makes it easier for it: half the bytes of a score."""
    users, items, bias = topk_inputs(shape, device, seed)
    narrow = bias.to(shape.dtype)

    def eager() -> Tensor:
        scores = torch.addmm(narrow, users, items.t())
        return scores.topk(min(shape.k, shape.items)).values

    def truth() -> Tensor:
        best = torch.empty(shape.users, 0, dtype=torch.float64, device=device)
        for first in range(0, shape.items, 4096):
            rows, shift = items[first : first + 4096], bias[first : first + 4096]
            scores = users.double() @ rows.double().t() + shift.double()
            best = torch.cat([best, scores], 1)
            best = best.topk(min(shape.k, best.shape[1])).values
        return best

    size = shape.dtype.itemsize
    read = (shape.users + shape.items) * shape.width * size + shape.items * 4
    return Case(
        name=f"score_topk {SHORT[shape.dtype]} U{shape.users} I{shape.items} p{shape.width}"
        f" K{shape.k}",
        kernel=lambda: score_topk_triton(users, items, bias, shape.k)[0],
        plain=lambda: score_topk_reference(users, items, bias, shape.k)[0],
        truth=truth,
        peers={"matmul, topk": eager},
        bytes=read + shape.users * shape.k * 12,
        flop=2 * shape.users * shape.items * shape.width,
        tolerance=TOLERANCE[torch.float32],
    )
