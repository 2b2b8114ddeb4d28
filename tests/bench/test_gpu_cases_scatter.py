"""The cases of rows written in place: all ways agree at the first call and at every later one."""

from dataclasses import replace

import interpreted
import pytest
import torch

from predawn.bench.gpu_cases_scatter import ScatterShape, scatter_case, scatter_inputs

FULL, HALF, INT8 = torch.float32, torch.float16, torch.int8
SHAPES = [
    ScatterShape(6, 40, kept=2, drift=True, new_dtype=FULL),
    ScatterShape(6, 40, weight=0.3, norm_max=90.0, drift=True, new_dtype=FULL),
    ScatterShape(6, 40, kept=1, served=HALF, new_dtype=FULL),
    ScatterShape(6, 40, new_dtype=FULL),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_peers_and_reference_agree(shape: ScatterShape) -> None:
    case = scatter_case(shape, interpreted.DEVICE)
    for _ in range(2):
        truth = case.truth()
        assert truth.dtype == torch.float64
        for way in (case.kernel, case.plain, *case.peers.values()):
            assert torch.allclose(way().double(), truth, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("drift", [False, True])
def test_counts_what_is_read_and_written(drift: bool) -> None:
    """new, served, ids and scale; the kept vectors twice; what was served, for the drift."""
    shape = ScatterShape(6, 40, kept=2, drift=drift)
    row = 40 * 2 + 40 + 40 + 2 * 2 * 40 * 2 + (40 if drift else 0)
    assert scatter_case(shape, interpreted.DEVICE).bytes == 6 * row
    exponential = replace(shape, kept=0, weight=0.5, served=HALF)
    row = 40 * 2 + 40 * 2 + 40 + 40 * 2
    assert scatter_case(exponential, interpreted.DEVICE).bytes == 6 * row


def test_slots_differ_and_were_served_before() -> None:
    _, slots, table = scatter_inputs(SHAPES[0], interpreted.DEVICE)
    assert slots.unique().numel() == 6
    assert table.latest.tolist() == [0] * 24
    assert table.scale is not None
    assert table.scale.isfinite().all()
