"""The Triton half of `cross_lowrank`: all layers of a block of rows in one program.

Every layer's x is the first one plus x0 times a running scale: x_l = x_0 + x0 * s_l with s_0 = 0
and s_l = s_(l-1) + U_l V_l^T x_(l-1) + b_l. So a program keeps one float32 tile [d, BLOCK_M],
which is the accumulator of the second product, and never writes an x between layers. Tiles stand
upright, columns first: then the weights are the left operands, which the tensor cores read from
shared memory, and registers are left for the scale. The rank is taken in slices of BLOCK_R, whose
tiles of U and V are fetched ahead.

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


@triton.jit(do_not_specialize=["rows"])
def cross_lowrank_kernel(
    x0_ptr: tl.tensor,
    x_ptr: tl.tensor,
    u_ptr: tl.tensor,
    v_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    out_ptr: tl.tensor,
    rows: tl.tensor,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    SAME: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:
    """Program i takes rows i * BLOCK_M up to (i + 1) * BLOCK_M - 1, all columns.

    SAME: x starts as x0, so x_ptr is not read.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_D)
    real = column < WIDTH
    inside = real[:, None] & (row < rows)[None, :]
    at = row[None, :] * WIDTH + column[:, None]

    scale = tl.zeros([BLOCK_D, BLOCK_M], tl.float32)
    for layer in range(LAYERS):
        x0 = tl.load(x0_ptr + at, mask=inside, other=0.0)
        start = x0 if SAME else tl.load(x_ptr + at, mask=inside, other=0.0)
        x = start.to(tl.float32) + x0.to(tl.float32) * scale
        if not UPCAST:
            x = x.to(x0.dtype)
        for first in range(0, RANK, BLOCK_R):
            rank = first + tl.arange(0, BLOCK_R)
            fits = real[:, None] & ((rank < RANK) | (RANK % BLOCK_R == 0))[None, :]
            tile = (layer * WIDTH + column[:, None]) * RANK + rank[None, :]
            down = tl.load(v_ptr + tile, mask=fits, other=0.0)
            up = tl.load(u_ptr + tile, mask=fits, other=0.0)
            if UPCAST:
                down = down.to(tl.float32)
                up = up.to(tl.float32)
            inner = tl.dot(tl.trans(down), x, input_precision=PRECISION)
            scale = tl.dot(up, inner.to(up.dtype), acc=scale, input_precision=PRECISION)
        bias = tl.load(bias_ptr + layer * WIDTH + column, mask=real, other=0.0)
        scale += bias.to(tl.float32)[:, None]
    x0 = tl.load(x0_ptr + at, mask=inside, other=0.0)
    start = x0 if SAME else tl.load(x_ptr + at, mask=inside, other=0.0)
    tl.store(out_ptr + at, start.to(tl.float32) + x0.to(tl.float32) * scale, mask=inside)


@dataclass(frozen=True, slots=True)
class Settings:
    """One launch setting: rows and rank of a tile, warps of a program, stages of the fetch."""

    block_m: int
    block_r: int
    warps: int
    stages: int


# (bytes an element, columns at most) -> settings for sm_90 (H100, H200), narrowest first.
SETTINGS = {
    (2, 128): Settings(block_m=64, block_r=32, warps=4, stages=3),
    (2, 256): Settings(block_m=64, block_r=32, warps=8, stages=3),
    (2, 512): Settings(block_m=32, block_r=32, warps=8, stages=2),
    (4, 128): Settings(block_m=32, block_r=16, warps=8, stages=2),
}


def constants(
    width: int, rank: int, layers: int, element_bytes: int, same: bool
) -> dict[str, object]:
    """The kernel's compile-time arguments and launch options of one shape class.

    A tile of x of its own needs registers for its addresses: half the rows then.
    """
    entries = (s for (size, top), s in SETTINGS.items() if size == element_bytes and width <= top)
    chosen = next(entries)
    return {
        "LAYERS": layers,
        "WIDTH": width,
        "RANK": rank,
        "BLOCK_M": chosen.block_m if same else chosen.block_m // 2,
        "BLOCK_D": max(16, triton.next_power_of_2(width)),
        "BLOCK_R": max(16, min(chosen.block_r, triton.next_power_of_2(rank))),
        "SAME": same,
        "PRECISION": "tf32x3",
        "UPCAST": knobs.runtime.interpret,
        "num_warps": chosen.warps,
        "num_stages": chosen.stages,
    }


@triton_op(  # pyright: ignore[reportUntypedFunctionDecorator]
    "predawn::cross_lowrank", mutates_args=()
)
def cross_lowrank_triton(
    x0: Tensor, u: Tensor, v: Tensor, bias: Tensor, x: Tensor | None
) -> Tensor:
    """`cross_lowrank` by the kernel; arguments are checked there, widths fit `SETTINGS`."""
    x0 = x0.contiguous()
    start = x0 if x is None else x.contiguous()
    out = torch.empty_like(x0)
    (rows, width), (layers, _, rank) = x0.shape, u.shape
    fixed = constants(width, rank, layers, x0.element_size(), x is None)
    grid = (triton.cdiv(rows, fixed["BLOCK_M"]),)
    weights = (u.contiguous(), v.contiguous(), bias.contiguous())
    if rows:
        wrap_triton(cross_lowrank_kernel)[grid](x0, start, *weights, out, rows, **fixed)
    return out
