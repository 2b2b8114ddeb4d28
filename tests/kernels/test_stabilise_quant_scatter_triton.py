"""stabilise_quant_scatter's kernels: the reference's rows, and one winner in any order."""

from dataclasses import fields

import pytest
import torch
from interpreted import DEVICE
from reversed_programs import reversed_programs

from predawn.bench.gpu_cases_scatter import ScatterShape, scatter_case
from predawn.bench.gpu_numerics import judge, judge_case, poisoned_memory
from predawn.kernels.stabilise_quant_scatter import (
    Slots,
    empty_slots,
    served_rows,
    stabilise_quant_scatter_reference,
)
from predawn.kernels.stabilise_quant_scatter_triton import stabilise_quant_scatter_triton

INT8, HALF, BRAIN, FULL = torch.int8, torch.float16, torch.bfloat16, torch.float32

SHAPES = [
    ScatterShape(2, 1, new_dtype=FULL),
    ScatterShape(7, 33, kept=2, served=HALF, new_dtype=FULL),
    ScatterShape(5, 300, weight=0.3, norm_max=300.0, drift=True),
    ScatterShape(9, 64, kept=1, norm_max=100.0, drift=True, new_dtype=HALF),
    ScatterShape(6, 16, weight=0.5, served=HALF, new_dtype=FULL),
]


def _copy(table: Slots) -> Slots:
    parts = (getattr(table, field.name) for field in fields(table))
    return Slots(*(part if part is None else part.clone() for part in parts))


def _kernel(new, slots, sequence, table: Slots, weight=None, norm_max=None, drift=False):
    held = (table.served, table.scale, table.kept, table.latest)
    with poisoned_memory():
        return stabilise_quant_scatter_triton(new, slots, sequence, *held, weight, norm_max, drift)


def _same(found: torch.Tensor | None, expected: torch.Tensor | None, atol: float = 0.0) -> bool:
    if found is None or expected is None:
        return found is expected
    return torch.allclose(found.double(), expected.double(), 1e-6, atol, equal_nan=True)


def _check(found: Slots, expected: Slots, rows: torch.Tensor) -> None:
    """Equal; int8 steps may differ by one where the exact value is halfway between two."""
    assert _same(found.latest, expected.latest)
    assert _same(found.kept, expected.kept)
    assert _same(found.scale, expected.scale)
    if found.served.dtype != INT8:
        assert _same(found.served, expected.served)
        return
    apart = (found.served.int() - expected.served.int()).abs()
    assert int(apart.max()) <= 1
    assert int((apart > 0).sum()) <= max(1, rows.numel() // 500)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_as_exact_as_torch(shape: ScatterShape) -> None:
    case = scatter_case(shape, DEVICE)
    verdict = judge_case(case)
    assert verdict.good, verdict
    truth = case.truth()
    assert not judge(torch.zeros_like(truth), truth.clone(), truth, case.tolerance).good


@pytest.mark.parametrize(
    ("served", "kept", "weight", "norm_max"),
    [(INT8, 0, None, None), (INT8, 2, None, 4.0), (HALF, 1, None, None), (INT8, 0, 0.3, 4.0)],
)
@pytest.mark.parametrize("new_dtype", [FULL, BRAIN])
@pytest.mark.parametrize("backward", [False, True])
def test_batches_with_duplicates_and_slots_outside(
    served: torch.dtype,
    kept: int,
    weight: float | None,
    norm_max: float | None,
    new_dtype: torch.dtype,
    backward: bool,
) -> None:
    """Four batches of 12 rows for 7 slots, sequence numbers in no order, some rows NaN or 0."""
    dice = torch.Generator().manual_seed(kept + 1)
    table = empty_slots(7, 20, dtype=served, kept=kept, device=DEVICE)
    for batch in range(4):
        new = torch.randn(12, 20, generator=dice)
        new[batch], new[batch + 1, 3] = 0.0, torch.nan
        slots = torch.randint(-1, 8, (12,), generator=dice)
        sequence = torch.randperm(12, generator=dice) + 6 * batch  # overlaps the batch before
        slots[0], slots[1] = -(2**63), 2**62
        given = (new.to(DEVICE, new_dtype), slots.to(DEVICE), sequence.to(DEVICE))
        expected = _copy(table)
        cosines = stabilise_quant_scatter_reference(*given, expected, weight, norm_max, True)
        if backward:
            with reversed_programs():
                found = _kernel(*given, table, weight, norm_max, drift=True)
        else:
            found = _kernel(*given, table, weight, norm_max, drift=True)
        _check(table, expected, new)
        assert _same(found, cosines, 1e-5)
    assert int((table.latest >= 0).sum()) >= 6


def test_later_row_wins_in_either_order_of_programs() -> None:
    new = torch.arange(1.0, 7.0, device=DEVICE)[:, None]
    slots = torch.tensor([0, 1, 0, 1, 0, 1], device=DEVICE)
    sequence = torch.tensor([5, 9, 3, 4, 8, 1], device=DEVICE)
    forward, backward = (empty_slots(2, 1, dtype=HALF, kept=2, device=DEVICE) for _ in "ab")
    _kernel(new, slots, sequence, forward)
    with reversed_programs():
        _kernel(new, slots, sequence, backward)
    assert forward.served[:, 0].tolist() == backward.served[:, 0].tolist() == [5.0, 2.0]
    assert forward.latest.tolist() == backward.latest.tolist() == [8, 9]
    assert _same(forward.kept, backward.kept)


def test_claimed_rows_of_several_programs() -> None:
    """More rows than one claiming program takes, all for one slot."""
    count = 300
    table = empty_slots(1, 2, dtype=HALF, device=DEVICE)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    new = order[:, None].float().expand(count, 2)
    _kernel(new, torch.zeros(count, dtype=torch.int64, device=DEVICE), order, table)
    assert served_rows(table, torch.tensor([0], device=DEVICE)).tolist() == [[299.0, 299.0]]


@pytest.mark.parametrize("served", [INT8, HALF])
def test_infinite_row_leaves_nothing(served: torch.dtype) -> None:
    table = empty_slots(3, 4, dtype=served, device=DEVICE)
    new = torch.ones(3, 4, device=DEVICE)
    new[0, 1], new[1] = torch.inf, torch.nan
    ids = torch.arange(3, device=DEVICE)
    _kernel(new, ids, ids, table)
    assert served_rows(table, ids).isnan().all(1).tolist() == [True, True, False]


def test_steps_are_rounded_to_even_at_halves() -> None:
    table = empty_slots(1, 4, device=DEVICE)
    one = torch.zeros(1, dtype=torch.int64, device=DEVICE)
    _kernel(torch.tensor([[127.0, 0.5, 1.5, -2.5]], device=DEVICE), one, one, table)
    assert table.served.tolist() == [[127, 0, 2, -2]]


def test_no_rows_change_nothing() -> None:
    table = empty_slots(2, 4, device=DEVICE)
    none = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    assert _kernel(torch.zeros(0, 4, device=DEVICE), none, none, table, drift=True).shape == (0,)
    assert table.latest.tolist() == [-1, -1]
