"""bag_pool's kernel: right for jagged bags of every kind, harmless for bad ids."""

import pytest
import torch
from interpreted import DEVICE
from reversed_programs import reversed_programs

from predawn.bench.gpu_cases import BagShape, bag_case, bag_inputs
from predawn.bench.gpu_cases_bags import QuantisedBagShape, quantised_bag_case
from predawn.bench.gpu_numerics import judge, judge_case, poisoned_memory
from predawn.kernels.bag_pool import bag_pool_reference
from predawn.kernels.bag_pool_triton import bag_pool_triton

HALF, FULL = torch.float16, torch.float32

SHAPES = [
    BagShape(1, 16, 16, 20, 4, FULL),
    BagShape(5, 3, 1, 20, 4, FULL),
    BagShape(3, 2, 130, 20, 9, FULL, mean=True),
    BagShape(9, 4, 64, 20, 10, HALF),
    BagShape(4, 3, 100, 20, 10, HALF, mean=True),
]
K = 8  # rows of a bag in flight: BLOCK_K


def _bags(lengths: list[int], tables: int, seed: int = 4) -> tuple[torch.Tensor, ...]:
    """Tables of 20 rows of 24 and bags of exactly these lengths, duplicates included."""
    dice = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.randint(0, 20, (int(offsets[-1]),), generator=dice)
    rows = torch.randn(20 * tables, 24, generator=dice)
    first_row = torch.arange(tables + 1) * 20
    return tuple(tensor.to(DEVICE) for tensor in (rows, first_row, ids, offsets))


def _check(inputs: tuple[torch.Tensor, ...], mean: bool = False) -> None:
    rows, first_row, ids, offsets = inputs
    with poisoned_memory():
        out, bad = bag_pool_triton(rows, first_row, ids, offsets, mean)
    exact, exact_bad = bag_pool_reference(rows.double(), first_row, ids, offsets, mean)
    assert out.shape == exact.shape
    assert float((out.double() - exact).norm()) <= 1e-6 * float(exact.norm())
    assert torch.equal(out == 0, exact == 0)
    assert int(bad) == int(exact_bad)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_as_exact_as_torch(shape: BagShape) -> None:
    verdict = judge_case(bag_case(shape, DEVICE))
    assert verdict.good, verdict


@pytest.mark.parametrize(
    "shape",
    [
        QuantisedBagShape(3, 2, 16, 20, 4),
        QuantisedBagShape(2, 3, 100, 20, 9, weighted=True),
        QuantisedBagShape(1, 2, 130, 20, 12, weighted=True),
    ],
    ids=str,
)
def test_quantised_rows_are_as_exact_as_torch(shape: QuantisedBagShape) -> None:
    case = quantised_bag_case(shape, DEVICE)
    verdict = judge_case(case)
    assert verdict.good, verdict
    truth = case.truth()
    assert not judge(torch.zeros_like(truth), case.plain(), truth, case.tolerance).good


def test_weights_and_scales_of_bad_ids_are_not_read() -> None:
    rows, first_row, ids, offsets = _bags([3, 0, 9, 2], tables=2)
    steps, scale = (rows * 40).clamp(-127, 127).to(torch.int8), torch.rand(40, device=DEVICE)
    weights = torch.ones(ids.numel(), device=DEVICE)
    ids[[0, 5]] = torch.tensor([-1, 2**40], device=DEVICE)
    weights[[0, 5]] = torch.nan
    given = (steps, first_row, ids, offsets, False)
    with poisoned_memory():
        out, bad = bag_pool_triton(*given, scale, weights)
    exact, _ = bag_pool_reference(*given, scale.double(), weights)
    assert float((out.double() - exact).norm()) <= 1e-6 * float(exact.norm())
    assert int(bad) == 2


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(
    "lengths",
    [
        [0, 0],
        [0, 1, K - 1, K, K + 1, 2 * K, 2 * K + 1, 0],
        [1] * 6 + [300] + [0] * 5,
        [3] * 66,
    ],
    ids=["all empty", "around a tile", "one giant", "many"],
)
def test_jagged_extremes(lengths: list[int], mean: bool) -> None:
    _check(_bags(lengths, tables=2), mean)


def test_no_users_give_no_bags() -> None:
    rows, first_row, ids, offsets = _bags([], tables=2)
    assert bag_pool_triton(rows, first_row, ids, offsets, False)[0].shape == (0, 2, 24)


def test_bad_ids_are_counted_and_touch_nothing() -> None:
    rows, first_row, ids, offsets = _bags([9, 1, 20, 5], tables=2)
    rows[20:] = torch.nan
    ids[offsets[1] : offsets[2]] = 20  # past the end of table 1
    ids[offsets[3] :] = torch.tensor([-1, 20, 2**62, -(2**63), 10**6])
    ids[:2] = torch.tensor([20, 39])  # of table 0: the rows of table 1 are NaN
    out, bad = bag_pool_triton(rows, first_row, ids, offsets, True)
    assert torch.isfinite(out).all()
    assert int(bad) == 8
    assert torch.equal(out[0, 1], torch.zeros(24, device=DEVICE))


def test_bad_ids_of_wide_rows_are_counted_once() -> None:
    rows, first_row, ids, offsets = bag_inputs(BagShape(2, 2, 300, 10, 3), DEVICE)
    ids[0] = -1
    assert int(bag_pool_triton(rows, first_row, ids, offsets, False)[1]) == 1


def test_users_do_not_depend_on_their_neighbours() -> None:
    lengths = [3, 0, 17, 1, 9, 9]
    rows, first_row, ids, offsets = _bags(lengths, tables=2)
    whole, _ = bag_pool_triton(rows, first_row, ids, offsets, False)
    for user in range(3):
        own = offsets[2 * user : 2 * user + 3]
        alone = (ids[own[0] : own[-1]], own - own[0])
        assert torch.equal(bag_pool_triton(rows, first_row, *alone, False)[0][0], whole[user])


def test_order_of_programs_does_not_matter() -> None:
    inputs = bag_inputs(BagShape(20, 2, 40, 10, 5), DEVICE)
    forward, _ = bag_pool_triton(*inputs, False)
    with reversed_programs():
        assert torch.equal(bag_pool_triton(*inputs, False)[0], forward)
