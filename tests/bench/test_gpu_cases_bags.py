"""The cases of quantised bags: all ways to a result agree, and its bytes are counted right."""

import interpreted
import pytest
import torch

from predawn.bench.gpu_cases_bags import (
    QuantisedBagShape,
    quantised_bag_case,
    quantised_bag_inputs,
)

SHAPES = [QuantisedBagShape(4, 3, 8, 10, 5), QuantisedBagShape(4, 3, 8, 10, 5, weighted=True)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_peers_and_reference_agree(shape: QuantisedBagShape) -> None:
    case = quantised_bag_case(shape, interpreted.DEVICE)
    truth = case.truth()
    assert truth.dtype == torch.float64
    for way in (case.kernel, case.plain, *case.peers.values()):
        assert torch.allclose(way().double(), truth, rtol=1e-2, atol=2e-2)


def test_counts_rows_scales_weights_and_bags() -> None:
    plain, weighted = (quantised_bag_case(shape, interpreted.DEVICE) for shape in SHAPES)
    _, first_row, ids, offsets, *_ = quantised_bag_inputs(SHAPES[0], interpreted.DEVICE)
    count, bag = ids.numel(), torch.arange(12).repeat_interleave(offsets.diff())
    rows = set((ids + first_row[bag % (len(first_row) - 1)]).tolist())
    assert plain.bytes == len(rows) * (8 + 2) + count * 8 + 12 * (8 * 2 + 8)
    assert weighted.bytes == plain.bytes + count * 4
