"""New keys and values, SiLU'd, into the pages of a layer's kept histories.

    pages[s // PAGE, 0, h, s % PAGE] = silu(k_raw[i, h]),   ... 1 ... = silu(v_raw[i, h]),
    with s = slots[i]

Shapes: k_raw, v_raw [R, H, d], last stride 1, usually views of the layer's one product; pages
[P, 2, H, PAGE, d], written in place; slots int64 [R] = page * PAGE + offset, each at most once (of
two rows of one slot either may win). A slot outside the pages is not written: -1 says "keep this
row out". One dtype of float32, float16 or bfloat16 (the reference: float64 too).

Bytes that must move: 4 R H d elements; one SiLU each: bound by memory, at few rows by the launch.

On a CUDA device without gradients one Triton kernel does it; elsewhere the torch reference runs.
"""

import torch
from torch import Tensor

from predawn.kernels import launch
from predawn.kernels.hstu_prefix_attn import PAGE


def kv_write(k_raw: Tensor, v_raw: Tensor, pages: Tensor, slots: Tensor) -> None:
    """Writes in place. ValueError names a bad shape or dtype."""
    _check(k_raw, v_raw, pages, slots)
    if launch.use_triton(k_raw, v_raw, pages, slots):
        from predawn.kernels.kv_write_triton import kv_write_triton

        kv_write_triton(k_raw, v_raw, pages, slots)
        return
    kv_write_reference(k_raw, v_raw, pages, slots)


def kv_write_reference(k_raw: Tensor, v_raw: Tensor, pages: Tensor, slots: Tensor) -> None:
    """The formula in torch, in the dtype of its arguments."""
    good = (slots >= 0) & (slots < pages.shape[0] * PAGE)
    if not bool(good.all()):
        k_raw, v_raw, slots = k_raw[good], v_raw[good], slots[good]
    page, offset = slots // PAGE, slots % PAGE
    pages[page, 0, :, offset] = torch.nn.functional.silu(k_raw)
    pages[page, 1, :, offset] = torch.nn.functional.silu(v_raw)


def _check(k_raw: Tensor, v_raw: Tensor, pages: Tensor, slots: Tensor) -> None:
    given = (k_raw, v_raw, pages, slots)
    fits = k_raw.ndim == 3 and k_raw.shape == v_raw.shape and pages.ndim == 5
    expected = (2, *k_raw.shape[1:2], PAGE, *k_raw.shape[2:])
    if not fits or tuple(pages.shape[1:]) != expected or slots.shape != k_raw.shape[:1]:
        raise ValueError(
            f"kv_write needs k_raw and v_raw [R, H, d], pages [P, 2, H, {PAGE}, d], slots [R], "
            f"got {[tuple(tensor.shape) for tensor in given]}"
        )
    if len({k_raw.dtype, v_raw.dtype, pages.dtype}) > 1 or slots.dtype != torch.int64:
        raise ValueError(
            "kv_write needs one dtype and int64 slots, got "
            f"{[str(tensor.dtype) for tensor in given]}"
        )
