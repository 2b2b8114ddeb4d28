"""kv_write: the reference is the formula, and touches no other place."""

import pytest
import torch
from torch.nn.functional import silu

from predawn.kernels.hstu_prefix_attn import PAGE
from predawn.kernels.kv_write import kv_write


def _inputs(rows: int = 5) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(1)
    product = torch.randn(rows, 4, 2, 3, generator=dice, dtype=torch.float64)
    pages = torch.full((4, 2, 2, PAGE, 3), 7.0, dtype=torch.float64)
    slots = torch.tensor([3 * PAGE - 1, 0, 3 * PAGE, 70, 4 * PAGE - 1])[:rows]
    return [product[:, 3], product[:, 1], pages, slots]


def test_each_row_goes_to_its_slot_and_nowhere_else() -> None:
    k, v, pages, slots = _inputs()
    expected = pages.clone()
    for row, slot in enumerate(slots.tolist()):
        for head in range(2):
            expected[slot // PAGE, 0, head, slot % PAGE] = silu(k[row, head])
            expected[slot // PAGE, 1, head, slot % PAGE] = silu(v[row, head])
    kv_write(k, v, pages, slots)
    assert torch.equal(pages, expected)


def test_slots_outside_the_pages_are_not_written() -> None:
    k, v, pages, slots = _inputs()
    kept = _inputs()[2]
    kv_write(k[1:2], v[1:2], kept, slots[1:2])
    slots[[0, 2, 3, 4]] = torch.tensor([-1, 4 * PAGE, 2**62, -(2**63)])
    kv_write(k, v, pages, slots)
    assert torch.equal(pages, kept)


def test_no_rows_change_nothing() -> None:
    k, v, pages, slots = _inputs(0)
    kv_write(k, v, pages, slots)
    assert bool((pages == 7).all())


@pytest.mark.parametrize("at", range(4))
def test_wrong_shape_is_refused(at: int) -> None:
    inputs = _inputs()
    inputs[at] = inputs[at][..., :-1]
    with pytest.raises(ValueError, match=r"needs k_raw and v_raw \[R, H, d\]"):
        kv_write(*inputs)


@pytest.mark.parametrize("at", range(4))
def test_wrong_dtype_is_refused(at: int) -> None:
    inputs = _inputs()
    inputs[at] = inputs[at].to(torch.int32 if at == 3 else torch.float32)
    with pytest.raises(ValueError, match="needs one dtype and int64 slots"):
        kv_write(*inputs)
