"""The cases of `bag_pool` with int8 rows, scales and weights; float rows are in gpu_cases.py.

Torch pools no int8 rows on a GPU, so the peer reads the same rows as float16, dequantised before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from predawn.bench.gpu_cases import TOLERANCE, BagShape, Case, bag_inputs, distinct
from predawn.kernels.bag_pool import bag_pool_reference
from predawn.kernels.bag_pool_triton import bag_pool_triton


@dataclass(frozen=True, slots=True)
class QuantisedBagShape:
    """As `BagShape`, with int8 rows and their float16 scales; `weighted`: a weight for each id."""

    users: int
    tables: int
    width: int
    table_rows: int
    bag: int
    weighted: bool = False


QUANTISED_BAGS = (
    QuantisedBagShape(1, 64, 64, 1_000_000, 10),
    QuantisedBagShape(256, 64, 64, 1_000_000, 10, weighted=True),
    QuantisedBagShape(256, 512, 128, 100_000, 20),
)


def quantised_bag_inputs(
    shape: QuantisedBagShape, device: str, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """(rows, first_row, ids, offsets, scale, weights): rows of about unit size."""
    jagged = BagShape(shape.users, shape.tables, 1, shape.table_rows, shape.bag)
    _, first_row, ids, offsets = bag_inputs(jagged, device, seed)
    dice = torch.Generator(device=device).manual_seed(seed + 1)
    count = shape.tables * shape.table_rows
    rows = torch.empty(count, shape.width, dtype=torch.int8, device=device)
    rows.random_(-127, 128, generator=dice)
    scale = (torch.rand(count, generator=dice, device=device) + 0.5).half() / 64
    weights = torch.rand(ids.numel(), generator=dice, device=device) if shape.weighted else None
    return rows, first_row, ids, offsets, scale, weights


def quantised_bag_case(shape: QuantisedBagShape, device: str, seed: int = 0) -> Case:
    """The peer has it easier: one table, positions already added, nothing checked."""
    given = quantised_bag_inputs(shape, device, seed)
    rows, first_row, ids, offsets, scale, weights = given
    bags = offsets.numel() - 1
    table = torch.arange(bags, device=device) % shape.tables
    position = ids + torch.repeat_interleave(first_row[table], offsets.diff())
    halves = rows.half().mul_(scale[:, None])
    half_weights = None if weights is None else weights.half()

    def embedding_bag() -> Tensor:
        flat = torch.nn.functional.embedding_bag(
            position,
            halves,
            offsets,
            mode="sum",
            per_sample_weights=half_weights,
            include_last_offset=True,
        )
        return flat.view(shape.users, shape.tables, shape.width)

    def pooled(factor: Tensor) -> Tensor:
        return bag_pool_reference(*given[:4], scale=factor, weights=weights)[0]

    read = distinct(position)
    id_bytes = 8 + (4 if shape.weighted else 0)
    mode = "weighted" if shape.weighted else "sum"
    return Case(
        name=f"bag_pool int8 B{shape.users} T{shape.tables} D{shape.width} {mode}",
        kernel=lambda: bag_pool_triton(*given[:4], False, scale, weights)[0],
        plain=lambda: pooled(scale),
        truth=lambda: pooled(scale.double()),
        peers={"embedding_bag fp16": embedding_bag},
        bytes=read * (shape.width + 2) + ids.numel() * id_bytes + bags * (shape.width * 2 + 8),
        flop=ids.numel() * shape.width * (3 if shape.weighted else 2),
        tolerance=TOLERANCE[torch.float16],
    )
