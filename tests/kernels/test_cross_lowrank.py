"""cross_lowrank: the reference is the formula, and the CPU needs nothing but torch."""

import subprocess
import sys

import pytest
import torch

from predawn.kernels.cross_lowrank import cross_lowrank, cross_lowrank_reference


def _inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    dice = torch.Generator().manual_seed(1)
    sizes = ((5, 6), (3, 6, 2), (3, 6, 2), (3, 6))
    return tuple(torch.randn(size, generator=dice, dtype=torch.float64).to(dtype) for size in sizes)


def test_reference_is_the_formula_of_every_row() -> None:
    x0, u, v, bias = _inputs()
    out = cross_lowrank_reference(x0, u, v, bias)
    for row, start in zip(out.tolist(), x0.tolist(), strict=True):
        x = start
        for up, down, shift in zip(u.tolist(), v.tolist(), bias.tolist(), strict=True):
            inner = [sum(down[i][k] * x[i] for i in range(6)) for k in range(2)]
            outer = [sum(up[i][k] * inner[k] for k in range(2)) for i in range(6)]
            x = [start[i] * (outer[i] + shift[i]) + x[i] for i in range(6)]
        assert row == pytest.approx(x, rel=1e-12)


def test_x_of_its_own_is_where_the_layers_start() -> None:
    x0, u, v, bias = _inputs()
    x = x0.flip(0)
    once = x0 * (x @ v[0] @ u[0].t() + bias[0]) + x
    assert torch.allclose(cross_lowrank(x0, u[:1], v[:1], bias[:1], x), once)
    assert torch.equal(cross_lowrank(x0, u, v, bias, x0), cross_lowrank(x0, u, v, bias))


def test_no_layers_leave_rows_as_they_are() -> None:
    x0, u, v, bias = _inputs()
    assert torch.equal(cross_lowrank(x0, u[:0], v[:0], bias[:0]), x0)


def test_gradients_flow_through_the_public_function() -> None:
    inputs = [tensor.requires_grad_() for tensor in _inputs()]
    assert torch.autograd.gradcheck(cross_lowrank, inputs)


@pytest.mark.parametrize("at", range(5))
def test_wrong_shape_is_refused(at: int) -> None:
    inputs = [*_inputs(), _inputs()[0]]
    inputs[at] = inputs[at][..., :-1]
    with pytest.raises(ValueError, match=r"needs x0 and x \[R, d\], u and v \[L, d, r\]"):
        cross_lowrank(*inputs)


def test_mixed_dtypes_are_refused() -> None:
    x0, u, v, bias = _inputs()
    with pytest.raises(ValueError, match="needs one dtype"):
        cross_lowrank(x0.float(), u, v, bias)


def test_cpu_calls_do_not_import_triton() -> None:
    code = """
import sys, torch
from predawn.kernels.bag_pool import bag_pool
from predawn.kernels.cross_lowrank import cross_lowrank
x = torch.ones(2, 3)
cross_lowrank(x, torch.ones(1, 3, 2), torch.ones(1, 3, 2), torch.ones(1, 3))
bag_pool(x, torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([0, 1]))
sys.exit("triton" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
