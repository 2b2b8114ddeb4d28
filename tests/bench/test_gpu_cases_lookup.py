"""The cases of looked-up rows: all ways to a result agree, bytes and FLOP are counted right."""

import interpreted
import pytest
import torch

from predawn.bench.gpu_cases import Case
from predawn.bench.gpu_cases_lookup import (
    GATHERS,
    TOPKS,
    GatherShape,
    TopkShape,
    gather_case,
    gather_inputs,
    topk_case,
)

FULL, HALF = torch.float32, torch.float16
DEVICE = interpreted.DEVICE
CASES = [
    gather_case(GatherShape(9, 8, 6, 3, 20, 12, FULL), DEVICE),
    gather_case(GatherShape(9, 8, 6, 3, 20, 12, FULL, FULL, relu=False), DEVICE),
    topk_case(TopkShape(2, 30, 8, 4, FULL), DEVICE),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_peers_and_reference_agree(case: Case) -> None:
    truth = case.truth()
    assert truth.dtype == torch.float64
    for way in (case.kernel, case.plain, *case.peers.values()):
        assert torch.allclose(way().double(), truth, rtol=1e-5, atol=1e-5)


def test_gather_counts_each_row_and_the_weights_once() -> None:
    shape = GatherShape(10, 8, 6, 4, 20, 12, HALF)
    case, given = gather_case(shape, DEVICE), gather_inputs(shape, DEVICE)
    assert case.flop == 2 * 10 * 18 * 20
    items, pairs = set(given.item.tolist()), set(given.pair.tolist()) - {-1}
    read = len(items) * 8 + len(pairs) * 6 * 2  # int8 and float16
    row = 4 * 2 + 20 * 2 + 32  # dense, out, ids and scale
    assert case.bytes == read + 10 * row + 18 * 20 * 2


def test_topk_counts_no_score_matrix() -> None:
    case = topk_case(TopkShape(10, 100, 8, 4, HALF), DEVICE)
    assert case.flop == 2 * 10 * 100 * 8
    assert case.bytes == (10 + 100) * 8 * 2 + 100 * 4 + 10 * 4 * 12


def test_one_row_in_four_has_no_pair() -> None:
    g = gather_inputs(GatherShape(16, 8, 6, 3, 20, 12), DEVICE)
    assert int((g.pair < 0).sum()) == 4
    assert all(t is not None for t in g)


def test_large_shapes_of_the_kernels_are_there() -> None:
    assert {shape.rows for shape in GATHERS} >= {512, 4096, 32768}
    assert {(shape.users, shape.items) for shape in TOPKS} >= {
        (1024, 4096),
        (16, 1_000_000),
        (1024, 1_000_000),
    }


def test_same_seed_same_inputs() -> None:
    shape = GatherShape(4, 3, 8, 2, 5, 9)
    first, second = (gather_inputs(shape, DEVICE, 7) for _ in "ab")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
