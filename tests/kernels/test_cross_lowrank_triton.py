"""cross_lowrank's kernel: right at every shape, and every row depends on itself alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted import DEVICE
from reversed_programs import reversed_programs

from predawn.bench.gpu_cases import CrossShape, cross_case
from predawn.bench.gpu_numerics import judge_case
from predawn.kernels.cross_lowrank import WIDTH_MAX, cross_lowrank_reference
from predawn.kernels.cross_lowrank_triton import SETTINGS, constants, cross_lowrank_triton

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32

SHAPES = [
    CrossShape(1, 1, 1, 1, FULL),
    CrossShape(31, 8, 4, 2, FULL),
    CrossShape(33, 128, 16, 3, FULL),
    CrossShape(64, 64, 32, 1, HALF),
    CrossShape(65, 100, 33, 2, HALF),
    CrossShape(3, 512, 128, 3, HALF),
    CrossShape(70, 130, 20, 2, BRAIN),
    CrossShape(5, 257, 100, 3, BRAIN),
    CrossShape(20, 112, 16, 1, FULL, apart=True),
    CrossShape(37, 70, 9, 2, HALF, apart=True),
]


def _inputs(shape: CrossShape, unit: float = 0.3) -> tuple[torch.Tensor, ...]:
    """-1, 0 or 1 times `unit`: with unit 1 and few layers all sums are exact in any order."""
    dice = torch.Generator().manual_seed(2)
    wide = (shape.layers, shape.width, shape.rank)
    sizes = ((shape.rows, shape.width), wide, wide, wide[:2])
    drawn = [torch.randint(-1, 2, size, generator=dice) for size in sizes]
    return tuple(numbers.to(DEVICE, shape.dtype) * unit for numbers in drawn)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_as_exact_as_torch(shape: CrossShape) -> None:
    verdict = judge_case(cross_case(shape, DEVICE))
    assert verdict.good, verdict


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 70), width=st.integers(1, 128), rank=st.integers(1, 40))
def test_kernel_is_right_at_any_small_shape(rows: int, width: int, rank: int) -> None:
    x0, u, v, bias = _inputs(CrossShape(rows, width, rank, 2))
    exact = cross_lowrank_reference(*(t.double() for t in (x0, u, v, bias)))
    out = cross_lowrank_triton(x0, u, v, bias, None).double()
    assert float((out - exact).norm()) <= 2e-6 * float(exact.norm())


def test_rows_do_not_depend_on_their_neighbours() -> None:
    x0, u, v, bias = _inputs(CrossShape(70, 48, 20, 2), unit=1.0)
    whole = cross_lowrank_triton(x0, u, v, bias, None)
    parts = [cross_lowrank_triton(part, u, v, bias, None) for part in x0.split([1, 40, 29])]
    assert torch.equal(torch.cat(parts), whole)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    assert torch.equal(cross_lowrank_triton(x0[order], u, v, bias, None), whole[order])


def test_order_of_programs_does_not_matter() -> None:
    inputs = _inputs(CrossShape(100, 16, 8, 2))
    forward = cross_lowrank_triton(*inputs, None)
    with reversed_programs():
        assert torch.equal(cross_lowrank_triton(*inputs, None), forward)


def test_strided_rows_are_read_as_they_are() -> None:
    x0, u, v, bias = _inputs(CrossShape(12, 10, 4, 1))
    turned = x0.t().contiguous().t()
    assert torch.equal(
        cross_lowrank_triton(turned, u, v, bias, None), cross_lowrank_triton(x0, u, v, bias, None)
    )


def test_no_rows_give_no_rows() -> None:
    x0, u, v, bias = _inputs(CrossShape(0, 10, 4, 1))
    assert cross_lowrank_triton(x0, u, v, bias, None).shape == (0, 10)


def test_every_width_that_is_let_through_has_settings() -> None:
    for size, widest in WIDTH_MAX.items():
        assert max(top for bytes_, top in SETTINGS if bytes_ == size) == widest
        assert constants(widest, 128, 1, size, True)["BLOCK_D"] >= widest
