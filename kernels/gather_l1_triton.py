"""The Triton half of `gather_l1`: three gathered products of a tile in one accumulator.

Items come first: after their product the accumulator is multiplied by each row's scale, and the
pair and dense segments are added to it. A pair that is not there takes the miss vector, which is
read once per program. Tiles of one block of rows follow each other, so that rows which were
gathered for one block of columns are in L2 for the next.

Settings are fixed per shape class; tests/kernels checks the registers, spills and shared memory
that they lead to on sm_90.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton import knobs


@triton.jit
def _product(
    acc: tl.tensor,
    values: tl.tensor,
    w_ptr: tl.tensor,
    k: tl.tensor,
    column: tl.tensor,
    SIZE: tl.constexpr,
    HIDDEN: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> tl.tensor:
    """acc + values [M, K] @ the rows k of a weight [SIZE, HIDDEN]."""
    real = (k < SIZE)[:, None] & (column < HIDDEN)[None, :]
    weight = tl.load(w_ptr + k[:, None] * HIDDEN + column[None, :], mask=real, other=0.0)
    if UPCAST:
        weight = weight.to(tl.float32)
    return tl.dot(values.to(weight.dtype), weight, acc=acc, input_precision=PRECISION)


@triton.jit
def _id(
    ids_ptr: tl.tensor, row: tl.tensor, real: tl.tensor, count: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """Each row's id, and whether its table has it."""
    id = tl.load(ids_ptr + row, mask=real, other=0).to(tl.int64)
    return id, real & (id >= 0) & (id < count)


@triton.jit
def _rows(
    table_ptr: tl.tensor,
    row: tl.tensor,
    there: tl.tensor,
    column: tl.tensor,
    WIDTH: tl.constexpr,
) -> tl.tensor:
    """Some columns of rows of a table [n, WIDTH], 0 where not there."""
    inside = there[:, None] & (column < WIDTH)[None, :]
    return tl.load(table_ptr + row[:, None] * WIDTH + column[None, :], mask=inside, other=0)


@triton.jit(do_not_specialize=["rows", "user_count", "item_count", "pair_count", "source_count"])
def gather_l1_kernel(
    user_ptr: tl.tensor,
    row_user_ptr: tl.tensor,
    items_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    item_ptr: tl.tensor,
    pairs_ptr: tl.tensor,
    pair_ptr: tl.tensor,
    miss_ptr: tl.tensor,
    dense_ptr: tl.tensor,
    w_item_ptr: tl.tensor,
    w_pair_ptr: tl.tensor,
    w_dense_ptr: tl.tensor,
    source_part_ptr: tl.tensor,
    source_ptr: tl.tensor,
    out_ptr: tl.tensor,
    rows: tl.tensor,
    user_count: tl.tensor,
    item_count: tl.tensor,
    pair_count: tl.tensor,
    source_count: tl.tensor,
    ITEM: tl.constexpr,
    PAIR: tl.constexpr,
    DENSE: tl.constexpr,
    HIDDEN: tl.constexpr,
    SCALED: tl.constexpr,
    SOURCED: tl.constexpr,
    RELU: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:
    """Program i takes the block i % n of columns of the row block i // n, n blocks of columns."""
    blocks: tl.constexpr = (HIDDEN + BLOCK_H - 1) // BLOCK_H
    tile = tl.program_id(0).to(tl.int64)
    row = tile // blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    column = (tile % blocks * BLOCK_H).to(tl.int32) + tl.arange(0, BLOCK_H)
    real = row < rows
    acc = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)
    item, known = _id(item_ptr, row, real, item_count)
    for first in range(0, ITEM, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        values = _rows(items_ptr, item, known, k, ITEM)
        acc = _product(acc, values, w_item_ptr, k, column, ITEM, HIDDEN, PRECISION, UPCAST)
    if SCALED:
        acc = acc * tl.load(scale_ptr + item, mask=known, other=0.0)[:, None]

    pair, held = _id(pair_ptr, row, real, pair_count)
    for first in range(0, PAIR, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        miss = tl.load(miss_ptr + k, mask=k < PAIR, other=0.0)
        values = _rows(pairs_ptr, pair, held, k, PAIR).to(miss.dtype)
        values = tl.where(held[:, None], values, miss[None, :])
        acc = _product(acc, values, w_pair_ptr, k, column, PAIR, HIDDEN, PRECISION, UPCAST)
    for first in range(0, DENSE, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        values = _rows(dense_ptr, row, real, k, DENSE)
        acc = _product(acc, values, w_dense_ptr, k, column, DENSE, HIDDEN, PRECISION, UPCAST)

    user, named = _id(row_user_ptr, row, real, user_count)
    acc += _rows(user_ptr, user, named, column, HIDDEN).to(tl.float32)
    if SOURCED:
        source, named = _id(source_ptr, row, real, source_count)
        acc += _rows(source_part_ptr, source, named, column, HIDDEN).to(tl.float32)
    if RELU:
        acc = tl.where(acc < 0.0, 0.0, acc)
    inside = real[:, None] & (column < HIDDEN)[None, :]
    tl.store(out_ptr + row[:, None] * HIDDEN + column[None, :], acc, mask=inside)


@dataclass(frozen=True, slots=True)
class Settings:
    """One launch setting: rows, columns and depth of a tile, warps, stages of the fetch."""

    block_m: int
    block_h: int
    block_k: int
    warps: int
    stages: int


FEW_ROWS = 1024  # up to here tiles are small, so that there are enough of them
# (bytes an element of the weights, few rows) -> settings for sm_90 (H100, H200).
SETTINGS = {
    (2, True): Settings(block_m=16, block_h=64, block_k=64, warps=4, stages=3),
    (2, False): Settings(block_m=128, block_h=128, block_k=64, warps=8, stages=3),
    (4, True): Settings(block_m=16, block_h=64, block_k=32, warps=4, stages=3),
    (4, False): Settings(block_m=64, block_h=64, block_k=32, warps=8, stages=2),
}


def constants(
    sizes: tuple[int, int, int, int],
    rows: int,
    element_bytes: int,
    scaled: bool,
    sourced: bool,
    relu: bool,
) -> dict[str, object]:
    """The kernel's compile-time arguments and launch options; sizes: Di, P, F and h."""
    item, pair, dense, hidden = sizes
    chosen = SETTINGS[element_bytes, rows <= FEW_ROWS]
    return {
        "ITEM": item,
        "PAIR": pair,
        "DENSE": dense,
        "HIDDEN": hidden,
        "SCALED": scaled,
        "SOURCED": sourced,
        "RELU": relu,
        "BLOCK_M": chosen.block_m,
        "BLOCK_H": max(16, min(chosen.block_h, triton.next_power_of_2(hidden))),
        "BLOCK_K": max(16, min(chosen.block_k, triton.next_power_of_2(max(item, pair, dense)))),
        "PRECISION": "tf32x3",
        "UPCAST": knobs.runtime.interpret,
        "num_warps": chosen.warps,
        "num_stages": chosen.stages,
    }


@triton_op(  # pyright: ignore[reportUntypedFunctionDecorator]
    "predawn::gather_l1", mutates_args=()
)
def gather_l1_triton(
    user_part: Tensor,
    row_user: Tensor,
    items: Tensor,
    item_scale: Tensor | None,
    item: Tensor,
    pairs: Tensor,
    pair: Tensor,
    miss: Tensor,
    dense: Tensor,
    w_item: Tensor,
    w_pair: Tensor,
    w_dense: Tensor,
    source_part: Tensor | None,
    source: Tensor | None,
    relu: bool,
) -> Tensor:
    """`gather_l1` by the kernel; arguments are checked there."""
    rows, hidden = dense.shape[0], user_part.shape[1]
    out = torch.empty(rows, hidden, dtype=w_item.dtype, device=w_item.device)
    sizes = (items.shape[1], pairs.shape[1], dense.shape[1], hidden)
    scaled, sourced = item_scale is not None, source is not None
    fixed = constants(sizes, rows, w_item.element_size(), scaled, sourced, relu)
    grid = (triton.cdiv(rows, fixed["BLOCK_M"]) * triton.cdiv(hidden, fixed["BLOCK_H"]),)
    tables = (user_part, row_user, items, item_scale, item, pairs, pair, miss, dense)
    weights = (w_item, w_pair, w_dense, source_part, source)
    sources = 0 if source_part is None else len(source_part)
    if out.numel():
        wrap_triton(gather_l1_kernel)[grid](
            *(tensor if tensor is None else tensor.contiguous() for tensor in (*tables, *weights)),
            out,
            rows,
            len(user_part),
            len(items),
            len(pairs),
            sources,
            **fixed,
        )
    return out
