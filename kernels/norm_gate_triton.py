"""The Triton half of `norm_gate`: a program holds some whole rows in its registers.

A row is read once; mean and variance are taken from the registers, one after the other, so nothing
cancels. Settings are fixed per width; tests/kernels checks what they lead to on sm_90.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton import knobs

from predawn.kernels.silu_triton import silu


@triton.jit(do_not_specialize=["rows"])
def norm_gate_kernel(
    attn_ptr: tl.tensor,
    gate_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    out_ptr: tl.tensor,
    rows: tl.tensor,
    eps: tl.tensor,
    WIDTH: tl.constexpr,
    ATTN_STRIDE: tl.constexpr,
    GATE_STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    FAST: tl.constexpr,
) -> None:
    """Program i takes rows i * BLOCK_M up to (i + 1) * BLOCK_M - 1."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_D)
    real = column < WIDTH
    inside = (row < rows)[:, None] & real[None, :]
    attn = tl.load(attn_ptr + row[:, None] * ATTN_STRIDE + column[None, :], mask=inside, other=0.0)
    gate = tl.load(gate_ptr + row[:, None] * GATE_STRIDE + column[None, :], mask=inside, other=0.0)
    x = attn.to(tl.float32)
    mean = tl.sum(x, axis=1) / WIDTH
    away = tl.where(real[None, :], x - mean[:, None], 0.0)
    scale = 1 / tl.sqrt(tl.sum(away * away, axis=1) / WIDTH + eps)
    weight = tl.load(weight_ptr + column, mask=real, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=real, other=0.0).to(tl.float32)
    normed = away * scale[:, None] * weight[None, :] + bias[None, :]
    out = normed * silu(gate.to(tl.float32), FAST)
    tl.store(out_ptr + row[:, None] * WIDTH + column[None, :], out, mask=inside)


def constants(
    width: int, attn_stride: int, gate_stride: int, element_bytes: int
) -> dict[str, object]:
    """The kernel's compile-time arguments and launch options of one width.

    16 elements of each input a thread; narrow rows share a program of 4 warps.
    """
    block_d = triton.next_power_of_2(width)
    return {
        "WIDTH": width,
        "ATTN_STRIDE": attn_stride,
        "GATE_STRIDE": gate_stride,
        "BLOCK_M": max(1, 2048 // block_d),
        "BLOCK_D": block_d,
        "FAST": element_bytes == 2 and not knobs.runtime.interpret,
        "num_warps": max(4, min(16, block_d // 512)),
    }


@triton_op(  # pyright: ignore[reportUntypedFunctionDecorator]
    "predawn::norm_gate", mutates_args=()
)
def norm_gate_triton(
    attn: Tensor, u_raw: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """`norm_gate` by the kernel; arguments are checked there."""
    attn = attn if attn.stride(1) == 1 else attn.contiguous()
    u_raw = u_raw if u_raw.stride(1) == 1 else u_raw.contiguous()
    rows, width = attn.shape
    out = torch.empty((rows, width), dtype=attn.dtype, device=attn.device)
    fixed = constants(width, attn.stride(0), u_raw.stride(0), attn.element_size())
    if rows:
        wrap_triton(norm_gate_kernel)[(triton.cdiv(rows, fixed["BLOCK_M"]),)](
            attn, u_raw, weight.contiguous(), bias.contiguous(), out, rows, eps, **fixed
        )
    return out
