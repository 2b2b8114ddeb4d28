"""Layer norm of an attention's result, times the SiLU of its gate: what precedes the last product.

    out[i] = ((a_i - mean(a_i)) / sqrt(var(a_i) + eps) * weight + bias) * silu(u_i)

Shapes: attn and u_raw [R, D], last stride 1, u_raw usually a view of the layer's one product;
weight and bias [D]; out [R, D], contiguous. float32, float16 or bfloat16 (the reference: float64
too) of attn and u_raw, weight and bias of the same; sums are float32. HSTU: arXiv 2402.17152,
section 3, Eq. 3.

Bytes that must move: 3 R D elements; about 10 FLOP an element: bound by memory.

On a CUDA device without gradients one Triton kernel does it for D up to `WIDTH_MAX`; elsewhere the
torch reference runs, which autograd can follow.
"""

import torch
from torch import Tensor

from predawn.kernels import launch

WIDTH_MAX = 8192  # one program holds a row in its registers


def norm_gate(attn: Tensor, u_raw: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """[R, D], dtype of attn. ValueError names a bad shape or dtype."""
    _check(attn, u_raw, weight, bias)
    if attn.shape[1] <= WIDTH_MAX and launch.use_triton(attn, u_raw, weight, bias):
        from predawn.kernels.norm_gate_triton import norm_gate_triton

        out: Tensor = norm_gate_triton(attn, u_raw, weight, bias, eps)
        return out
    return norm_gate_reference(attn, u_raw, weight, bias, eps)


def norm_gate_reference(
    attn: Tensor, u_raw: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """The formula in torch, in the dtype of its arguments."""
    normed = torch.nn.functional.layer_norm(attn, attn.shape[1:], weight, bias, eps)
    return normed * torch.nn.functional.silu(u_raw)


def _check(attn: Tensor, u_raw: Tensor, weight: Tensor, bias: Tensor) -> None:
    given = (attn, u_raw, weight, bias)
    fits = attn.ndim == 2 and attn.shape == u_raw.shape
    if not fits or not weight.shape == bias.shape == attn.shape[1:]:
        raise ValueError(
            "norm_gate needs attn and u_raw [R, D], weight and bias [D], got "
            f"{[tuple(tensor.shape) for tensor in given]}"
        )
    if len({tensor.dtype for tensor in given}) > 1:
        raise ValueError(
            f"norm_gate needs one dtype, got {[str(tensor.dtype) for tensor in given]}"
        )
