"""norm_gate's kernel: right at every width, and every row depends on itself alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted import DEVICE
from reversed_programs import reversed_programs

from predawn.bench.gpu_cases_attention import RowsShape, norm_gate_case
from predawn.bench.gpu_numerics import judge_case
from predawn.kernels.norm_gate import WIDTH_MAX, norm_gate_reference
from predawn.kernels.norm_gate_triton import constants, norm_gate_triton

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
SHAPES = [
    RowsShape(33, 2, 32, FULL),
    RowsShape(5, 3, 100, HALF),
    RowsShape(65, 4, 32, BRAIN),
    RowsShape(3, 16, 128, BRAIN),
    RowsShape(2, 1, WIDTH_MAX, FULL),
]


def _inputs(rows: int, width: int, offset: float = 0.0) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(rows + width)
    sizes = ((rows, width), (rows, 4 * width), (width,), (width,))
    attn, product, weight, bias = (torch.randn(size, generator=dice).to(DEVICE) for size in sizes)
    return [attn + offset, product[:, :width], weight, bias]


def _error(inputs: list[torch.Tensor]) -> float:
    exact = norm_gate_reference(*(tensor.double() for tensor in inputs), 1e-5)
    out = norm_gate_triton(*inputs, 1e-5).double()
    return float((out - exact).norm() / exact.norm())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_as_exact_as_torch(shape: RowsShape) -> None:
    verdict = judge_case(norm_gate_case(shape, DEVICE))
    assert verdict.good, verdict


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 70), width=st.integers(1, 300))
def test_kernel_is_right_at_any_small_shape(rows: int, width: int) -> None:
    assert _error(_inputs(rows, width)) <= 1e-6


def test_large_means_do_not_cancel_the_variance() -> None:
    assert _error(_inputs(4, 128, offset=1000.0)) <= 1e-4


def test_equal_values_have_no_variance_and_stay_finite() -> None:
    attn, gate, weight, bias = _inputs(3, 40)
    out = norm_gate_triton(torch.ones_like(attn), gate, weight, bias, 1e-5)
    expected = torch.nn.functional.silu(gate) * bias
    assert torch.allclose(out, expected, atol=1e-6)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    attn, gate, weight, bias = _inputs(70, 64)
    whole = norm_gate_triton(attn, gate, weight, bias, 1e-5)
    parts = zip(attn.split([1, 40, 29]), gate.split([1, 40, 29]), strict=True)
    split = [norm_gate_triton(*part, weight, bias, 1e-5) for part in parts]
    assert torch.equal(torch.cat(split), whole)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    assert torch.equal(norm_gate_triton(attn[order], gate[order], weight, bias, 1e-5), whole[order])


def test_order_of_programs_does_not_matter() -> None:
    inputs = _inputs(100, 32)
    forward = norm_gate_triton(*inputs, 1e-5)
    with reversed_programs():
        assert torch.equal(norm_gate_triton(*inputs, 1e-5), forward)


def test_turned_rows_are_read_as_they_are() -> None:
    attn, gate, weight, bias = _inputs(12, 10)
    turned = [tensor.t().contiguous().t() for tensor in (attn, gate)]
    expected = norm_gate_triton(attn, gate, weight, bias, 1e-5)
    assert torch.equal(norm_gate_triton(*turned, weight, bias, 1e-5), expected)


def test_no_rows_give_no_rows() -> None:
    attn, gate, weight, bias = _inputs(0, 10)
    assert norm_gate_triton(attn, gate, weight, bias, 1e-5).shape == (0, 10)


def test_programs_have_a_row_at_least() -> None:
    for width in (1, 64, 100, 2048, WIDTH_MAX):
        fixed = constants(width, width, width, 2)
        assert int(str(fixed["BLOCK_M"])) >= 1 and int(str(fixed["BLOCK_D"])) >= width
