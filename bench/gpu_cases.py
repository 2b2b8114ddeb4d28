"""The kernels' cases: shapes, seeded inputs of sensible size, what must move and be computed.

Tests use the small ones on the CPU (Triton's interpreter), bench/gpu.sh the real ones on a GPU.
A case knows three ways to its result: `kernel`, `plain` (torch, same dtype) and `truth` (float64).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from predawn.kernels.bag_pool import bag_pool_reference
from predawn.kernels.bag_pool_triton import bag_pool_triton
from predawn.kernels.cross_lowrank import cross_lowrank_reference
from predawn.kernels.cross_lowrank_triton import cross_lowrank_triton

# Norm-relative error allowed, by dtype: one rounding of the result, and of each layer's x.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 5e-3}


@dataclass(frozen=True, slots=True)
class Case:
    """One operation at one shape. plain and truth: same inputs, no kernel; peers: what torch
    offers for the same result; bytes and flop: what any implementation must move and compute;
    yardsticks: work of the same size with another result."""

    name: str
    kernel: Callable[[], Tensor]
    plain: Callable[[], Tensor]
    truth: Callable[[], Tensor]
    peers: dict[str, Callable[[], Tensor]]
    bytes: int
    flop: int
    tolerance: float
    yardsticks: dict[str, Callable[[], Tensor]] = field(
        default_factory=dict[str, Callable[[], Tensor]]
    )


@dataclass(frozen=True, slots=True)
class CrossShape:
    """`cross_lowrank`: R rows of d, L layers of rank r; `apart`: x is not x0 at first."""

    rows: int
    width: int
    rank: int
    layers: int
    dtype: torch.dtype = torch.float32
    apart: bool = False


@dataclass(frozen=True, slots=True)
class BagShape:
    """`bag_pool`: B users, T tables of `table_rows` rows of D, `bag` ids a bag on average."""

    users: int
    tables: int
    width: int
    table_rows: int
    bag: int
    dtype: torch.dtype = torch.float32
    mean: bool = False


def cross_case(shape: CrossShape, device: str, seed: int = 0) -> Case:
    """Inputs of unit size, weights such that every layer about doubles the variance at most."""
    r, d, k, layers = shape.rows, shape.width, shape.rank, shape.layers
    dice = torch.Generator(device=device).manual_seed(seed)

    def draw(scale: float, *size: int) -> Tensor:
        return (torch.randn(size, generator=dice, device=device) * scale).to(shape.dtype)

    x0, up, down = draw(1, r, d), draw(k**-0.5, layers, d, k), draw(d**-0.5, layers, d, k)
    bias = draw(0.1, layers, d)
    x = draw(1, r, d) if shape.apart else None

    def plain() -> Tensor:
        return cross_lowrank_reference(x0, up, down, bias, x)

    def truth() -> Tensor:
        wide = [tensor.double() for tensor in (x0, up, down, bias, x0 if x is None else x)]
        return cross_lowrank_reference(*wide)

    moved = (3 if shape.apart else 2) * r * d + layers * d * (2 * k + 1)
    return Case(
        name=f"cross_lowrank {short(shape.dtype)} R{r} d{d} r{k} L{layers}{' x' * shape.apart}",
        kernel=lambda: cross_lowrank_triton(x0, up, down, bias, x),
        plain=plain,
        truth=truth,
        peers={"eager": plain},
        bytes=moved * x0.element_size(),
        flop=4 * r * d * k * layers,
        tolerance=TOLERANCE[shape.dtype],
    )


def bag_inputs(
    shape: BagShape, device: str, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(rows, first_row, ids, offsets): bags of 0 to 2 `bag` ids, all inside their tables."""
    dice = torch.Generator(device=device).manual_seed(seed)
    bags = shape.users * shape.tables
    lengths = torch.randint(0, 2 * shape.bag + 1, (bags,), generator=dice, device=device)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    count = int(offsets[-1])
    ids = torch.randint(0, shape.table_rows, (count,), generator=dice, device=device)
    first_row = torch.arange(shape.tables + 1, device=device) * shape.table_rows
    size = (shape.tables * shape.table_rows, shape.width)
    rows = torch.empty(size, dtype=shape.dtype, device=device).normal_(generator=dice)
    return rows, first_row, ids, offsets


def bag_case(shape: BagShape, device: str, seed: int = 0) -> Case:
    """The peer has it easier: one table, positions already added, nothing checked."""
    rows, first_row, ids, offsets = bag_inputs(shape, device, seed)
    bags = offsets.numel() - 1
    table = torch.arange(bags, device=device) % shape.tables
    position = ids + torch.repeat_interleave(first_row[table], offsets.diff())
    mode = "mean" if shape.mean else "sum"

    def embedding_bag() -> Tensor:
        flat = torch.nn.functional.embedding_bag(
            position, rows, offsets, mode=mode, include_last_offset=True
        )
        return flat.view(shape.users, shape.tables, shape.width)

    def truth() -> Tensor:
        used, compact = torch.unique(position, return_inverse=True)
        exact = rows[used].double()
        flat = torch.nn.functional.embedding_bag(
            compact, exact, offsets, mode=mode, include_last_offset=True
        )
        return flat.view(shape.users, shape.tables, shape.width)

    read = distinct(position)
    row_bytes = shape.width * rows.element_size()
    return Case(
        name=f"bag_pool {short(shape.dtype)} B{shape.users} T{shape.tables} D{shape.width} {mode}",
        kernel=lambda: bag_pool_triton(rows, first_row, ids, offsets, shape.mean)[0],
        plain=lambda: bag_pool_reference(rows, first_row, ids, offsets, shape.mean)[0],
        truth=truth,
        peers={"embedding_bag": embedding_bag},
        bytes=(read + bags) * row_bytes + (ids.numel() + bags) * 8,
        flop=ids.numel() * shape.width,
        tolerance=TOLERANCE[shape.dtype],
    )


def distinct(ids: Tensor) -> int:
    """How many rows must be read: each once, however often it is asked for."""
    return int(ids.unique().numel())  # type: ignore[no-untyped-call]


def short(dtype: torch.dtype) -> str:
    """The name of a dtype in a case's name."""
    return {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]
