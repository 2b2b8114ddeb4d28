"""norm_gate: the reference is the formula."""

import math

import pytest
import torch

from predawn.kernels.norm_gate import norm_gate

EPS = 1e-3


def _inputs() -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(1)
    sizes = ((4, 6), (4, 24), (6,), (6,))
    attn, product, weight, bias = (
        torch.randn(size, generator=dice, dtype=torch.float64) for size in sizes
    )
    return [attn, product[:, 6:12], weight, bias]


def test_reference_is_the_formula_of_every_row() -> None:
    inputs = _inputs()
    attn, gate, weight, bias = (tensor.tolist() for tensor in inputs)
    for out, a, u in zip(norm_gate(*inputs, EPS).tolist(), attn, gate, strict=True):
        mean = sum(a) / 6
        deviation = math.sqrt(sum((x - mean) ** 2 for x in a) / 6 + EPS)
        normed = [(x - mean) / deviation * w + b for x, w, b in zip(a, weight, bias, strict=True)]
        gated = [n * x / (1 + math.exp(-x)) for n, x in zip(normed, u, strict=True)]
        assert out == pytest.approx(gated, rel=1e-12)


def test_gradients_flow_through_the_public_function() -> None:
    inputs = [tensor.clone().requires_grad_() for tensor in _inputs()]
    assert torch.autograd.gradcheck(lambda *tensors: norm_gate(*tensors, EPS), inputs)


def test_no_rows_give_no_rows() -> None:
    attn, gate, weight, bias = _inputs()
    assert norm_gate(attn[:0], gate[:0], weight, bias, EPS).shape == (0, 6)


@pytest.mark.parametrize("at", range(4))
def test_wrong_shape_and_dtype_are_refused(at: int) -> None:
    inputs = _inputs()
    inputs[at] = inputs[at][..., :-1]
    with pytest.raises(ValueError, match=r"needs attn and u_raw \[R, D\]"):
        norm_gate(*inputs, EPS)
    inputs = _inputs()
    inputs[at] = inputs[at].float()
    with pytest.raises(ValueError, match="needs one dtype"):
        norm_gate(*inputs, EPS)
