"""Low-rank DCN-v2 cross layers: each multiplies a row's input into what came before.

    x <- x0 * (U (V^T x) + b) + x          for each of L layers; x starts as x0 unless given

Shapes: x0 and x [R, d]; u, v [L, d, r]; bias [L, d]; out [R, d]. float32, float16 or bfloat16
(the reference: float64 too), all of one dtype; sums are float32. DCN-v2: arXiv 2008.13535,
section 3 (its low-rank form); SUM (arXiv 2311.09544) starts from an x of its own (Eq. 5).

Work: 4 R d r L FLOP. Bytes that must move: 2 R d + L d (2 r + 1) elements (x0 once, out once,
the weights once; x once more if given). At d = 512, r = 128, L = 3 and many rows that is 384 FLOP
a byte in bfloat16: bound by the tensor cores; below about 4,000 rows, by the launch.

On a CUDA device without gradients one Triton kernel does all layers of rows up to `WIDTH_MAX`;
elsewhere the torch reference runs, which autograd can follow.
"""

import torch
from torch import Tensor

from predawn.kernels import launch

# Bytes an element -> widest row that one program can keep in its registers.
WIDTH_MAX = {2: 512, 4: 128}


def cross_lowrank(
    x0: Tensor, u: Tensor, v: Tensor, bias: Tensor, x: Tensor | None = None
) -> Tensor:
    """All L layers at once; the result has x0's shape and dtype. ValueError names a bad shape."""
    _check(x0, u, v, bias, x0 if x is None else x)
    narrow = x0.shape[1] <= WIDTH_MAX.get(x0.element_size(), 0)
    if narrow and launch.use_triton(x0, u, v, bias, x0 if x is None else x):
        from predawn.kernels.cross_lowrank_triton import cross_lowrank_triton

        out: Tensor = cross_lowrank_triton(x0, u, v, bias, x)
        return out
    return cross_lowrank_reference(x0, u, v, bias, x)


def cross_lowrank_reference(
    x0: Tensor, u: Tensor, v: Tensor, bias: Tensor, x: Tensor | None = None
) -> Tensor:
    """The formula in torch, layer by layer, in the dtype of its arguments."""
    out = x0 if x is None else x
    for up, down, shift in zip(u.unbind(), v.unbind(), bias.unbind(), strict=True):
        inner = torch.nn.functional.linear(out @ down, up, shift)
        out = torch.addcmul(out, x0, inner)
    return out


def _check(x0: Tensor, u: Tensor, v: Tensor, bias: Tensor, x: Tensor) -> None:
    given = (x0, u, v, bias, x)
    fits = x0.ndim == 2 and x.shape == x0.shape and u.ndim == 3 and u.shape == v.shape
    if not fits or bias.shape != u.shape[:2] or u.shape[1] != x0.shape[1]:
        raise ValueError(
            "cross_lowrank needs x0 and x [R, d], u and v [L, d, r], bias [L, d], got "
            f"{[tuple(tensor.shape) for tensor in given]}"
        )
    if len({tensor.dtype for tensor in given}) > 1:
        raise ValueError(
            "cross_lowrank needs one dtype, got "
            f"{[str(tensor.dtype) for tensor in given]}: cast the weights once, when they load"
        )
