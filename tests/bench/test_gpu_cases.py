"""The GPU bench's cases: all ways to a result agree, and its bytes and FLOP are counted right."""

import interpreted
import pytest
import torch

from predawn.bench.gpu_cases import BagShape, Case, CrossShape, bag_case, bag_inputs, cross_case

CASES = [
    cross_case(CrossShape(5, 24, 4, 2), interpreted.DEVICE),
    bag_case(BagShape(4, 3, 8, 10, 5), interpreted.DEVICE),
    bag_case(BagShape(4, 3, 8, 10, 5, mean=True), interpreted.DEVICE),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_peers_and_reference_agree(case: Case) -> None:
    truth = case.truth()
    assert truth.dtype == torch.float64
    for way in (case.kernel, case.plain, *case.peers.values()):
        assert torch.allclose(way().double(), truth, rtol=1e-5, atol=1e-5)


def test_cross_counts_rows_once_and_weights_once() -> None:
    case = cross_case(CrossShape(10, 8, 4, 2, torch.float16), interpreted.DEVICE)
    assert case.flop == 2 * 10 * (2 * 8 * 4 + 2 * 4 * 8)
    assert case.bytes == 2 * (10 * 8 + 10 * 8 + 2 * (8 * 4 + 8 * 4 + 8))


def test_bag_counts_every_row_read_once_and_every_bag_written() -> None:
    shape = BagShape(4, 3, 8, 10, 5)
    case = bag_case(shape, interpreted.DEVICE)
    _, _, ids, offsets = bag_inputs(shape, interpreted.DEVICE)
    count, ends = ids.numel(), offsets.tolist()
    of_bags = [ids[ends[bag] : ends[bag + 1]].tolist() for bag in range(12)]
    rows = {(bag % 3, row) for bag, found in enumerate(of_bags) for row in found}
    assert len(rows) < count
    assert case.bytes == (len(rows) + 12) * 8 * 4 + (count + 12) * 8
    assert case.flop == count * 8


def test_same_seed_same_inputs() -> None:
    first, second = (bag_inputs(BagShape(4, 3, 8, 10, 5), interpreted.DEVICE, 7) for _ in "ab")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
