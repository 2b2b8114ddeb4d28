"""The Triton half of `kv_write`: a program takes some rows of one head, keys and values.

A slot outside the pages becomes a masked-off store: no address is made from it.
"""

import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton import knobs

from predawn.kernels.hstu_prefix_attn import PAGE
from predawn.kernels.silu_triton import silu


@triton.jit(do_not_specialize=["rows", "slots_end"])
def kv_write_kernel(
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    pages_ptr: tl.tensor,
    slots_ptr: tl.tensor,
    rows: tl.tensor,
    slots_end: tl.tensor,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    PAGE: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    HEAD_STRIDE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    FAST: tl.constexpr,
) -> None:
    """Program (i, h) takes rows i * BLOCK_M up to (i + 1) * BLOCK_M - 1 of head h."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    column, head = tl.arange(0, BLOCK_D), tl.program_id(1)
    slot = tl.load(slots_ptr + row, mask=row < rows, other=-1)
    good = (slot >= 0) & (slot < slots_end)
    slot = tl.where(good, slot, 0)
    inside = good[:, None] & (column < DIM)[None, :]
    source = row[:, None] * ROW_STRIDE + (head * HEAD_STRIDE + column)[None, :]
    k = tl.load(k_ptr + source, mask=inside, other=0.0)
    v = tl.load(v_ptr + source, mask=inside, other=0.0)
    line = (slot // PAGE * (2 * HEADS) + head) * PAGE + slot % PAGE
    target = pages_ptr + line[:, None] * DIM + column[None, :]
    tl.store(target, silu(k.to(tl.float32), FAST), mask=inside)
    tl.store(target + HEADS * PAGE * DIM, silu(v.to(tl.float32), FAST), mask=inside)


def constants(
    heads: int, dim: int, strides: tuple[int, int], element_bytes: int
) -> dict[str, object]:
    """The kernel's compile-time arguments and launch options; strides of rows and heads."""
    block_d = triton.next_power_of_2(dim)
    return {
        "HEADS": heads,
        "DIM": dim,
        "PAGE": PAGE,
        "ROW_STRIDE": strides[0],
        "HEAD_STRIDE": strides[1],
        "BLOCK_M": max(1, 2048 // block_d),
        "BLOCK_D": block_d,
        "FAST": element_bytes == 2 and not knobs.runtime.interpret,
        "num_warps": 4,
    }


@triton_op(  # pyright: ignore[reportUntypedFunctionDecorator]
    "predawn::kv_write", mutates_args={"pages"}
)
def kv_write_triton(k_raw: Tensor, v_raw: Tensor, pages: Tensor, slots: Tensor) -> None:
    """`kv_write` by the kernel; arguments are checked there."""
    if not (k_raw.stride() == v_raw.stride() and k_raw.stride(2) == 1):
        k_raw, v_raw = k_raw.contiguous(), v_raw.contiguous()
    rows, heads, dim = k_raw.shape
    fixed = constants(heads, dim, (k_raw.stride(0), k_raw.stride(1)), k_raw.element_size())
    if rows:
        wrap_triton(kv_write_kernel)[(triton.cdiv(rows, fixed["BLOCK_M"]), heads)](
            k_raw, v_raw, pages, slots, rows, pages.shape[0] * PAGE, **fixed
        )
