"""Low-rank DCN-v2 cross layers: every layer multiplies a row's input into what came before.

    x <- x0 * (U (V^T x) + b) + x          for each of L layers, x = x0 at first

Shapes: x0 [R, d]; u, v [L, d, r]; bias [L, d]; out [R, d]. float32, float16 or bfloat16, all of
one dtype; sums are float32. DCN-v2: arXiv 2008.13535, section 3 (its low-rank form).

Work: 4 R d r L FLOP. Bytes that must move: 2 R d + L d (2 r + 1) elements (x0 once, out once,
the weights once). At d = 512, r = 128, L = 3 and many rows that is 384 FLOP a byte in bfloat16:
bound by the tensor cores; below about 4,000 rows, by the launch.

On a CUDA device without gradients one Triton kernel does all layers of rows up to `WIDTH_MAX`;
elsewhere the torch reference runs, which autograd can follow.
"""

import torch
from torch import Tensor

from predawn.kernels import launch

# Bytes an element -> widest row that one program can keep in its registers.
WIDTH_MAX = {2: 512, 4: 128}


def cross_lowrank(x0: Tensor, u: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """All L layers at once; the result has x0's shape and dtype. ValueError names a bad shape."""
    _check(x0, u, v, bias)
    narrow = x0.shape[1] <= WIDTH_MAX.get(x0.element_size(), 0)
    if narrow and launch.use_triton(x0, u, v, bias):
        from predawn.kernels.cross_lowrank_triton import cross_lowrank_triton

        out: Tensor = cross_lowrank_triton(x0, u, v, bias)
        return out
    return cross_lowrank_reference(x0, u, v, bias)


def cross_lowrank_reference(x0: Tensor, u: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The formula in torch, layer by layer, in the dtype of its arguments."""
    x = x0
    for up, down, shift in zip(u, v, bias, strict=True):
        inner = torch.nn.functional.linear(x @ down, up, shift)
        x = torch.addcmul(x, x0, inner)
    return x


def _check(x0: Tensor, u: Tensor, v: Tensor, bias: Tensor) -> None:
    fits = x0.ndim == 2 and u.ndim == 3 and u.shape == v.shape and bias.shape == u.shape[:2]
    if not fits or u.shape[1] != x0.shape[1]:
        raise ValueError(
            "cross_lowrank needs x0 [R, d], u and v [L, d, r], bias [L, d], got "
            f"{[tuple(t.shape) for t in (x0, u, v, bias)]}"
        )
    if not x0.dtype == u.dtype == v.dtype == bias.dtype:
        raise ValueError(
            "cross_lowrank needs one dtype, got "
            f"{[str(t.dtype) for t in (x0, u, v, bias)]}: cast the weights once, when they load"
        )
