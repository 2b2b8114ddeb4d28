"""kv_write's kernel: right at every shape, harmless for slots outside the pages."""

import pytest
import torch
from interpreted import DEVICE
from reversed_programs import reversed_programs

from predawn.bench.gpu_cases_attention import RowsShape, kv_write_case
from predawn.bench.gpu_numerics import judge_case
from predawn.kernels.hstu_prefix_attn import PAGE
from predawn.kernels.kv_write import kv_write_reference
from predawn.kernels.kv_write_triton import kv_write_triton

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
SHAPES = [
    RowsShape(PAGE, 1, 32, FULL),
    RowsShape(2 * PAGE, 2, 32, BRAIN),
    RowsShape(PAGE, 3, 20, HALF),
    RowsShape(3 * PAGE, 2, 128, BRAIN),
]


def _inputs(rows: int, heads: int = 2, dim: int = 24) -> list[torch.Tensor]:
    """Rows of one product and slots in any order, 3 pages of NaN."""
    dice = torch.Generator().manual_seed(rows)
    product = torch.randn(rows, 4, heads, dim, generator=dice).to(DEVICE)
    pages = torch.full((3, 2, heads, PAGE, dim), torch.nan, device=DEVICE)
    slots = torch.randperm(3 * PAGE, generator=dice)[:rows].to(DEVICE)
    return [product[:, 3], product[:, 1], pages, slots]


def _written(inputs: list[torch.Tensor]) -> torch.Tensor:
    k, v, pages, slots = inputs
    out = pages.clone()
    kv_write_triton(k, v, out, slots)
    return out


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-6, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_as_exact_as_torch(shape: RowsShape) -> None:
    verdict = judge_case(kv_write_case(shape, DEVICE))
    assert verdict.good, verdict


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 130])
def test_rows_go_to_their_slots_and_nowhere_else(rows: int) -> None:
    inputs = _inputs(rows)
    expected = inputs[2].clone()
    kv_write_reference(*inputs[:2], expected, inputs[3])
    assert _same(_written(inputs), expected)
    assert int(torch.isfinite(_written(inputs)).sum()) == rows * 2 * 2 * 24


def test_slots_outside_the_pages_are_not_written() -> None:
    k, v, pages, slots = _inputs(9)
    slots[:5] = torch.tensor([-1, 3 * PAGE, 2**62, -(2**63), -PAGE])
    expected = pages.clone()
    kv_write_reference(k[5:], v[5:], expected, slots[5:])
    assert _same(_written([k, v, pages, slots]), expected)


def test_order_of_programs_does_not_matter() -> None:
    inputs = _inputs(150)
    forward = _written(inputs)
    with reversed_programs():
        assert torch.equal(_written(inputs).nan_to_num(9), forward.nan_to_num(9))


def test_strides_of_their_own_are_read_as_they_are() -> None:
    k, v, pages, slots = _inputs(20)
    turned = [k.transpose(0, 1).contiguous().transpose(0, 1), v, pages, slots]
    assert turned[0].stride() != v.stride()
    assert torch.equal(_written(turned).nan_to_num(9), _written(_inputs(20)).nan_to_num(9))
