"""gather_l1's kernel: right at every shape, and every row depends on its own ids alone."""

import pytest
import torch
from interpreted import DEVICE
from reversed_programs import reversed_programs

from predawn.bench.gpu_cases_lookup import GatherShape, gather_case, gather_inputs
from predawn.bench.gpu_numerics import judge, judge_case, poisoned_memory
from predawn.kernels.gather_l1 import Gathered, gather_l1_reference
from predawn.kernels.gather_l1_triton import FEW_ROWS, SETTINGS, constants, gather_l1_triton

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32

SHAPES = [
    GatherShape(1, 1, 1, 1, 1, 5, FULL, FULL, relu=False),
    GatherShape(33, 32, 32, 8, 64, 50, FULL),
    GatherShape(17, 40, 24, 7, 70, 50, HALF, HALF),
    GatherShape(40, 128, 100, 33, 130, 50, BRAIN),
    GatherShape(5, 0, 20, 0, 16, 50, BRAIN, HALF, relu=False),
    GatherShape(5, 20, 0, 3, 16, 50, FULL, FULL, relu=False),
    GatherShape(FEW_ROWS + 9, 33, 17, 5, 40, 50, FULL),
]


def _wide(g: Gathered) -> Gathered:
    floats = {n: t for n, t in g._asdict().items() if t is not None and t.is_floating_point()}
    return g._replace(**{name: tensor.double() for name, tensor in floats.items()})


def _exact(rows: int) -> Gathered:
    """Small integers everywhere: all sums are exact in any order, in float32."""
    g = gather_inputs(GatherShape(rows, 20, 12, 4, 33, 30, FULL), DEVICE)
    values = {n: t for n, t in g._asdict().items() if t is not None and t.is_floating_point()}
    rounded = {name: tensor.mul(3).round().clamp(-4, 4) for name, tensor in values.items()}
    scale = torch.arange(len(g.items), device=DEVICE) % 3 + 1.0
    return g._replace(**(rounded | {"item_scale": scale}))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_as_exact_as_torch(shape: GatherShape) -> None:
    case = gather_case(shape, DEVICE)
    verdict = judge_case(case)
    assert verdict.good, verdict
    truth = case.truth()
    assert not judge(torch.zeros_like(truth), case.plain(), truth, case.tolerance).good


def test_bad_ids_add_nothing() -> None:
    g = _exact(12)
    bad = torch.tensor([-1, -(2**63), 30, 31, 2**40, 2**62] * 2, device=DEVICE)
    g = g._replace(item=bad, pair=bad, row_user=bad, source=bad)
    with poisoned_memory():
        out = gather_l1_triton(*g, False)
    assert torch.equal(out.double(), gather_l1_reference(_wide(g), False))
    assert torch.equal(out, (g.miss @ g.w_pair) + g.dense @ g.w_dense)


def test_miss_is_exactly_the_miss_vector() -> None:
    g = _exact(9)
    held = torch.cat([g.pairs, g.miss[None].to(g.pairs.dtype)])
    last = torch.full_like(g.pair, len(held) - 1)
    as_row = gather_l1_triton(*g._replace(pairs=held, pair=last), True)
    missed = gather_l1_triton(*g._replace(pair=torch.full_like(g.pair, -1)), True)
    assert torch.equal(as_row, missed)


def test_row_of_nan_reaches_only_its_readers() -> None:
    g = _exact(20)
    g.user_part.nan_to_num_()
    assert g.item_scale is not None
    g.item_scale[7] = torch.nan
    out = gather_l1_triton(*g, True)
    assert torch.equal(out.isnan().any(1), g.item == 7)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    g = gather_inputs(GatherShape(50, 24, 16, 8, 48, 30), DEVICE)
    whole = gather_l1_triton(*g, True)
    by_row = ("row_user", "item", "pair", "dense", "source")

    def some(rows: torch.Tensor) -> torch.Tensor:
        picked = {name: g._asdict()[name][rows] for name in by_row}
        return gather_l1_triton(*g._replace(**picked), True)

    rows = torch.arange(50, device=DEVICE)
    parts = [some(part) for part in rows.split([1, 30, 19])]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(some(rows.flip(0)), whole.flip(0))


def test_order_of_programs_does_not_matter() -> None:
    g = gather_inputs(GatherShape(40, 16, 16, 4, 130, 30, FULL), DEVICE)
    forward = gather_l1_triton(*g, True)
    with reversed_programs():
        assert torch.equal(gather_l1_triton(*g, True), forward)


def test_strided_arguments_are_read_as_they_are() -> None:
    g = _exact(10)
    turned = {name: g._asdict()[name].t().contiguous().t() for name in ("dense", "w_pair", "items")}
    assert torch.equal(gather_l1_triton(*g._replace(**turned), True), gather_l1_triton(*g, True))


def test_no_rows_give_no_rows() -> None:
    g = gather_inputs(GatherShape(0, 16, 16, 4, 24, 30), DEVICE)
    assert gather_l1_triton(*g, True).shape == (0, 24)


def test_every_shape_class_has_settings() -> None:
    for size, few in SETTINGS:
        rows = FEW_ROWS if few else FEW_ROWS + 1
        fixed = constants((8, 8, 8, 1000), rows, size, True, True, True)
        assert fixed["BLOCK_M"] == SETTINGS[size, few].block_m
