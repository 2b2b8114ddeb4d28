"""The Triton half of `bag_pool`: several bags in one program, several rows of each in flight.

A program reads BLOCK_K rows of each of its BLOCK_B bags at once, as one tile of gathers that do
not wait for each other, until its longest bag ends. Bad ids become masked-off loads: they are
counted, and no address is made from them.

Settings are fixed per width; tests/kernels checks the registers and spills that they lead to.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton


@triton.jit(do_not_specialize=["bags", "count"])
def bag_pool_kernel(
    rows_ptr: tl.tensor,
    first_row_ptr: tl.tensor,
    ids_ptr: tl.tensor,
    offsets_ptr: tl.tensor,
    out_ptr: tl.tensor,
    bad_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    bags: tl.tensor,
    count: tl.tensor,
    TABLES: tl.constexpr,
    WIDTH: tl.constexpr,
    MEAN: tl.constexpr,
    SCALED: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Program (i, j) takes bags i * BLOCK_B ... and columns j * BLOCK_D ... of them."""
    bag = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    real = bag < bags
    begin = tl.maximum(tl.load(offsets_ptr + bag, mask=real, other=0), 0)
    end = tl.minimum(tl.load(offsets_ptr + bag + 1, mask=real, other=0), count)
    table = bag % TABLES
    first = tl.load(first_row_ptr + table)
    size = tl.load(first_row_ptr + table + 1) - first

    sums = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
    pooled = tl.zeros([BLOCK_B], tl.int32)
    refused = tl.zeros([BLOCK_B], tl.int32)
    for start in range(0, tl.max(end - begin), BLOCK_K):
        at = begin[:, None] + start + tl.arange(0, BLOCK_K)[None, :]
        live = at < end[:, None]
        row = tl.load(ids_ptr + at, mask=live, other=0)
        good = live & (row >= 0) & (row < size[:, None])
        row += first[:, None]
        source = rows_ptr + row[:, :, None] * WIDTH + column[None, None, :]
        wanted = good[:, :, None] & (column < WIDTH)[None, None, :]
        values = tl.load(source, mask=wanted, other=0).to(tl.float32)
        if SCALED:
            factor = tl.load(scale_ptr + row, mask=good, other=0.0).to(tl.float32)
            values = values * factor[:, :, None]
        if WEIGHTED:
            values = values * tl.load(weights_ptr + at, mask=good, other=0.0)[:, :, None]
        sums += tl.sum(values, axis=1)
        pooled += tl.sum(good.to(tl.int32), axis=1)
        refused += tl.sum((live & ~good).to(tl.int32), axis=1)

    if MEAN:
        sums = sums / tl.maximum(pooled, 1).to(tl.float32)[:, None]
    target = out_ptr + bag[:, None] * WIDTH + column[None, :]
    inside = real[:, None] & (column < WIDTH)[None, :]
    tl.store(target, sums, mask=inside)
    wrong = tl.sum(refused).to(tl.int64)
    tl.atomic_add(bad_ptr, wrong, mask=(wrong > 0) & (tl.program_id(1) == 0))


def constants(
    width: int, tables: int, mean: bool, scaled: bool = False, weighted: bool = False
) -> dict[str, object]:
    """The kernel's compile-time arguments and launch options of one width.

    A tile has about 4,096 elements: 32 a thread, in vectors of 8 or 4.
    """
    block_d = min(128, triton.next_power_of_2(width))
    return {
        "TABLES": tables,
        "WIDTH": width,
        "MEAN": mean,
        "SCALED": scaled,
        "WEIGHTED": weighted,
        "BLOCK_B": max(1, min(16, 512 // block_d)),
        "BLOCK_K": 8,
        "BLOCK_D": block_d,
        "num_warps": 4,
    }


@triton_op(  # pyright: ignore[reportUntypedFunctionDecorator]
    "predawn::bag_pool", mutates_args=()
)
def bag_pool_triton(
    rows: Tensor,
    first_row: Tensor,
    ids: Tensor,
    offsets: Tensor,
    mean: bool,
    scale: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`bag_pool` by the kernel; arguments are checked there."""
    tables, bags, width = first_row.numel() - 1, offsets.numel() - 1, rows.shape[1]
    stored = rows.dtype if scale is None else scale.dtype
    out = torch.empty(bags // tables, tables, width, dtype=stored, device=rows.device)
    bad = torch.zeros((), dtype=torch.int64, device=rows.device)
    fixed = constants(width, tables, mean, scale is not None, weights is not None)
    grid = (triton.cdiv(bags, fixed["BLOCK_B"]), triton.cdiv(width, fixed["BLOCK_D"]))
    if bags:
        wrap_triton(bag_pool_kernel)[grid](
            rows.contiguous(),
            first_row.contiguous(),
            ids.contiguous(),
            offsets.contiguous(),
            out,
            bad,
            scale if scale is None else scale.contiguous(),
            weights if weights is None else weights.contiguous(),
            bags,
            ids.numel(),
            **fixed,
        )
    return out, bad
