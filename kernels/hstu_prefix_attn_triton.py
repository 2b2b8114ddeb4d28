"""The Triton half of `hstu_prefix_attn`: a program takes some rows of one user and one head.

It reads its queries once, then walks the user's pages a block of keys at a time: product, SiLU,
product, nothing of it written. SiLU is applied as q, k and v are read, so no pass over the
projection is needed before. Blocks that every row sees whole need no mask; in the last one, keys
that are not there are read as zeros, and silu(0) = 0 makes them free. A candidate's view of itself
is a dot product per row, not a tile. In half precision SiLU is one `tanh.approx`: exp and a
division would keep the special-function units busy for longer than the products take.

A program whose user has more keys than `Tiling.chunk` leaves a float32 partial sum; a second
kernel adds them in order. Settings are in `hstu_prefix_attn.TILINGS`; tests/kernels checks the
registers, spills and shared memory that they lead to on sm_90.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton import knobs

from predawn.kernels.hstu_prefix_attn import PAGE, Tiling
from predawn.kernels.silu_triton import read_silu, silu


@triton.jit
def _held(
    pages_ptr: tl.tensor,
    page: tl.tensor,
    start: tl.tensor,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    PAGE: tl.constexpr,
    BLOCK_N: tl.constexpr,
) -> tl.tensor:
    """Where the keys start ... start + BLOCK_N - 1 of a user are, all of one `page`."""
    first = pages_ptr + page.to(tl.int64) * (2 * HEADS * PAGE * DIM) + (start % PAGE) * DIM
    return first + tl.arange(0, BLOCK_N)[:, None] * DIM + tl.arange(0, DIM)[None, :]


@triton.jit
def _weights(
    q: tl.tensor,
    k: tl.tensor,
    alpha: tl.tensor,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """float32 [BLOCK_M, BLOCK_N]: silu(alpha q . k)."""
    return silu(tl.dot(q, tl.trans(k), input_precision=PRECISION) * alpha, FAST)


@triton.jit
def _whole_blocks(
    acc: tl.tensor,
    q: tl.tensor,
    keys_ptr: tl.tensor,
    table_ptr: tl.tensor,
    begin: int,
    end: int,
    alpha: tl.tensor,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    PAGE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> tl.tensor:
    """acc and what the keys begin ... end - 1 of the pages add; every row sees all of them.

    A page's number is read a block ahead: a load whose address another load of the same iteration
    gives is not fetched ahead by the compiler, and all of them are waited for.
    """
    page = tl.load(table_ptr + begin // PAGE, mask=begin < end, other=0)
    for start in range(begin, end, BLOCK_N):
        after = start + BLOCK_N
        next_page = tl.load(table_ptr + after // PAGE, mask=after < end, other=0)
        keys = _held(keys_ptr, page, start, HEADS, DIM, PAGE, BLOCK_N)
        k, v = tl.load(keys), tl.load(keys + HEADS * PAGE * DIM)
        if UPCAST:
            k, v = k.to(tl.float32), v.to(tl.float32)
        weights = _weights(q, k, alpha, FAST, PRECISION)
        acc = tl.dot(weights.to(v.dtype), v, acc=acc, input_precision=PRECISION)
        page = next_page
    return acc


@triton.jit
def _last_blocks(
    acc: tl.tensor,
    q: tl.tensor,
    keys_ptr: tl.tensor,
    table_ptr: tl.tensor,
    begin: int,
    end: int,
    position: tl.tensor,
    alpha: tl.tensor,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    PAGE: tl.constexpr,
    WRITTEN: tl.constexpr,
    BLOCK_N: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> tl.tensor:
    """As `_whole_blocks`, of blocks that end early; WRITTEN: a row at `position` (int32
    [BLOCK_M]) among its user's tokens sees itself and those before it."""
    for start in range(begin, end, BLOCK_N):
        key = start + tl.arange(0, BLOCK_N)
        page = tl.load(table_ptr + start // PAGE)
        keys = _held(keys_ptr, page, start, HEADS, DIM, PAGE, BLOCK_N)
        there = (key < end)[:, None] & (tl.arange(0, DIM) < DIM)[None, :]
        k = tl.load(keys, mask=there, other=0.0)
        v = tl.load(keys + HEADS * PAGE * DIM, mask=there, other=0.0)
        if UPCAST:
            k, v = k.to(tl.float32), v.to(tl.float32)
        weights = _weights(q, k, alpha, FAST, PRECISION)
        if WRITTEN:
            weights = tl.where(key[None, :] <= position[:, None], weights, 0.0)
        acc = tl.dot(weights.to(v.dtype), v, acc=acc, input_precision=PRECISION)
    return acc


@triton.jit
def _new_rows(
    acc: tl.tensor,
    q: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    begin: int,
    end: int,
    row: tl.tensor,
    alpha: tl.tensor,
    DIM: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> tl.tensor:
    """acc and what the raw rows begin ... end - 1 add, to each row (int32 [BLOCK_M]) those up to
    itself."""
    lane, column = tl.arange(0, BLOCK_N), tl.arange(0, DIM)
    for start in range(begin, end, BLOCK_N):
        key = start + lane
        new = key.to(tl.int64)[:, None] * ROW_STRIDE + column[None, :]
        there = (key < end)[:, None] & (column < DIM)[None, :]
        k = read_silu(k_ptr + new, there, FAST, UPCAST)
        v = read_silu(v_ptr + new, there, FAST, UPCAST)
        weights = _weights(q, k, alpha, FAST, PRECISION)
        weights = tl.where(key[None, :] <= row[:, None], weights, 0.0)
        acc = tl.dot(weights.to(v.dtype), v, acc=acc, input_precision=PRECISION)
    return acc


@triton.jit(do_not_specialize=["table_width"])
def hstu_prefix_attn_kernel(
    q_ptr: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    pages_ptr: tl.tensor,
    table_ptr: tl.tensor,
    tiles_ptr: tl.tensor,
    out_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    table_width: tl.tensor,
    alpha: tl.tensor,
    inv_n: tl.tensor,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    PAGE: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    HEAD_STRIDE: tl.constexpr,
    CAUSAL: tl.constexpr,
    WRITTEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:
    """Program (i, h) takes tile i of `Work` and head h; a tile of no rows ends at once."""
    tile = tiles_ptr + tl.program_id(0).to(tl.int64) * 8
    row, count, user = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    begin, end, partial = tl.load(tile + 3), tl.load(tile + 4), tl.load(tile + 5)
    prefix, first = tl.load(tile + 6), tl.load(tile + 7)
    if count == 0:
        return
    head, lane, column = tl.program_id(1), tl.arange(0, BLOCK_M), tl.arange(0, DIM)
    at = row.to(tl.int64) * ROW_STRIDE + head * HEAD_STRIDE
    at += lane[:, None] * ROW_STRIDE + column[None, :]
    inside = (lane < count)[:, None] & (column < DIM)[None, :]
    q = read_silu(q_ptr + at, inside, FAST, UPCAST)

    table = table_ptr + user.to(tl.int64) * table_width
    keys_ptr = pages_ptr + head * (PAGE * DIM)
    position = prefix + row - first
    seen = tl.minimum(end, position + 1) if WRITTEN else end
    whole = tl.maximum(begin, seen // BLOCK_N * BLOCK_N)
    acc = tl.zeros([BLOCK_M, DIM], tl.float32)
    if begin == 0 and not CAUSAL:
        k = read_silu(k_ptr + at, inside, FAST, UPCAST)
        itself = silu(tl.sum(q.to(tl.float32) * k.to(tl.float32), axis=1) * alpha, FAST)
        v = read_silu(v_ptr + at, inside, FAST, UPCAST)
        acc = itself[:, None] * v.to(tl.float32)
    acc = _whole_blocks(
        acc, q, keys_ptr, table, begin, whole, alpha,
        HEADS, DIM, PAGE, BLOCK_N, FAST, PRECISION, UPCAST,
    )  # fmt: skip
    acc = _last_blocks(
        acc, q, keys_ptr, table, whole, end, position + lane, alpha,
        HEADS, DIM, PAGE, WRITTEN, BLOCK_N, FAST, PRECISION, UPCAST,
    )  # fmt: skip
    if begin == 0 and CAUSAL and not WRITTEN:
        shift = head * HEAD_STRIDE
        acc = _new_rows(
            acc, q, k_ptr + shift, v_ptr + shift, first, row + count, row + lane, alpha,
            DIM, ROW_STRIDE, BLOCK_N, FAST, PRECISION, UPCAST,
        )  # fmt: skip

    if partial < 0:
        out_ptr += (row.to(tl.int64) * HEADS + head) * DIM
        tl.store(out_ptr + lane[:, None] * (HEADS * DIM) + column[None, :], acc * inv_n, inside)
    else:
        partial_ptr += (partial.to(tl.int64) * HEADS + head) * (BLOCK_M * DIM)
        tl.store(partial_ptr + lane[:, None] * DIM + column[None, :], acc, inside)


@triton.jit
def add_partials_kernel(
    partial_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    out_ptr: tl.tensor,
    inv_n: tl.tensor,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
) -> None:
    """Program (i, h) adds the partial sums of entry i of `Work.sums`, first to last."""
    entry, head = sums_ptr + tl.program_id(0).to(tl.int64) * 4, tl.program_id(1)
    row, count = tl.load(entry), tl.load(entry + 1)
    slot, chunks = tl.load(entry + 2), tl.load(entry + 3)
    lane, column = tl.arange(0, BLOCK_M), tl.arange(0, DIM)
    inside = (lane < count)[:, None] & (column < DIM)[None, :]
    part = partial_ptr + (slot.to(tl.int64) * HEADS + head) * (BLOCK_M * DIM)
    part += lane[:, None] * DIM + column[None, :]
    acc = tl.zeros([BLOCK_M, DIM], tl.float32)
    for _ in range(chunks):
        acc += tl.load(part, mask=inside, other=0.0)
        part += HEADS * BLOCK_M * DIM
    out_ptr += (row.to(tl.int64) * HEADS + head) * DIM
    tl.store(out_ptr + lane[:, None] * (HEADS * DIM) + column[None, :], acc * inv_n, mask=inside)


def constants(
    heads: int, dim: int, strides: tuple[int, int], element_bytes: int, tiling: Tiling
) -> dict[str, object]:
    """The kernel's compile-time arguments and launch options, but for CAUSAL and WRITTEN.

    strides: of rows and heads of q, k and v, in elements.
    """
    interpreted = knobs.runtime.interpret
    return {
        "HEADS": heads,
        "DIM": dim,
        "PAGE": PAGE,
        "ROW_STRIDE": strides[0],
        "HEAD_STRIDE": strides[1],
        "BLOCK_M": tiling.rows,
        "BLOCK_N": tiling.keys,
        "FAST": element_bytes == 2 and not interpreted,
        "PRECISION": "tf32x3",
        "UPCAST": interpreted,
        "num_warps": tiling.warps,
        "num_stages": tiling.stages,
    }


@triton_op(  # pyright: ignore[reportUntypedFunctionDecorator]
    "predawn::hstu_prefix_attn", mutates_args=()
)
def hstu_prefix_attn_triton(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pages: Tensor,
    page_table: Tensor,
    tiles: Tensor,
    sums: Tensor,
    partials: int,
    tiling: list[int],
    alpha: float,
    inv_n: float,
    causal: bool,
    written: bool,
) -> Tensor:
    """The custom operator behind `attend`."""
    heads, dim = q.shape[1:]
    if not (q.stride() == k.stride() == v.stride() and q.stride(2) == 1):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    cut = Tiling(*tiling)
    fixed = constants(heads, dim, (q.stride(0), q.stride(1)), q.element_size(), cut)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    size = (partials, heads, cut.rows, dim)
    partial = torch.empty(size, dtype=torch.float32, device=q.device)
    if tiles.shape[0]:
        wrap_triton(hstu_prefix_attn_kernel)[(tiles.shape[0], heads)](
            q, k, v, pages, page_table, tiles, out, partial, page_table.shape[1], alpha, inv_n,
            CAUSAL=causal, WRITTEN=written, **fixed,
        )  # fmt: skip
    if sums.shape[0]:
        wrap_triton(add_partials_kernel)[(sums.shape[0], heads)](
            partial, sums, out, inv_n, HEADS=heads, DIM=dim, BLOCK_M=cut.rows, num_warps=cut.warps
        )
    return out
