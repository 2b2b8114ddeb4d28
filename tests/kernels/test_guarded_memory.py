"""No kernel reads or writes a byte past its tensors: the next page is not mapped."""

import ctypes
import signal

import pytest
import torch
from guarded_memory import copied, guard_allocations, guarded, run

FULL, HALF = torch.float32, torch.float16


def run_kernels() -> None:
    """Each in turn; the name of the last one that began is what a killed process leaves."""
    import interpreted

    assert interpreted.DEVICE == "cpu"
    guard_allocations()
    for kernel in (cross_lowrank, bag_pool, gather_l1, score_topk, stabilise_quant_scatter):
        print("guarded:", kernel.__name__, flush=True)
        kernel()


def cross_lowrank() -> None:
    """Shapes that fill no tile."""
    from predawn.kernels.cross_lowrank_triton import cross_lowrank_triton

    for dtype in (FULL, HALF):
        x0, u, v, bias = (
            copied(torch.ones(s, dtype=dtype)) for s in ((7, 5), (2, 5, 3), (2, 5, 3), (2, 5))
        )
        cross_lowrank_triton(x0, u, v, bias, copied(x0))


def bag_pool() -> None:
    """Bad ids, and offsets past the last id."""
    from predawn.kernels.bag_pool_triton import bag_pool_triton

    first_row = copied(torch.tensor([0, 3, 5]))
    ids = copied(torch.tensor([2, 7, -1, 1, 1, 4]))
    for dtype in (FULL, HALF):
        for offsets in ([0, 1, 3, 4, 6], [0, 0, 0, 0, 6], [0, 1, 3, 4, 900]):
            rows = copied(torch.ones(5, 3, dtype=dtype))
            bag_pool_triton(rows, first_row, ids, copied(torch.tensor(offsets)), True)
    steps, offsets = (
        copied(torch.ones(5, 3).to(torch.int8)),
        copied(torch.tensor([0, 1, 3, 4, 900])),
    )
    scale, weights = copied(torch.ones(5)), copied(torch.ones(6))
    bag_pool_triton(steps, first_row, ids, offsets, False, scale, weights)


def gather_l1() -> None:
    """Every id just outside its table on either side, and far away."""
    from predawn.kernels.gather_l1_triton import gather_l1_triton

    ids = copied(torch.tensor([-1, 0, 2, 3, 2**40, -(2**63)]))
    sizes = ((3, 7), (3, 5), (3, 3), (3,), (6, 9), (5, 7), (3, 7), (9, 7), (3, 7))
    for dtype in (FULL, HALF):
        user, items, pairs, miss, dense, *parts = (
            copied(torch.ones(size, dtype=dtype)) for size in sizes
        )
        scale = copied(torch.ones(3))
        source = copied(torch.tensor([0, 1, 2, 3, 255, 2], dtype=torch.uint8))
        for rows, given in ((items.to(torch.int8), scale), (items, None)):
            table = (user, ids, copied(rows), given, ids, copied(pairs.half()), ids, miss, dense)
            gather_l1_triton(*table, *parts, source, True)


def score_topk() -> None:
    """Users and items that fill no tile, more results than items."""
    from predawn.kernels.score_topk_triton import score_topk_triton

    for dtype, k in ((FULL, 3), (HALF, 7)):
        users, items = (copied(torch.ones(size, dtype=dtype)) for size in ((3, 5), (6, 5)))
        score_topk_triton(users, items, copied(torch.ones(6)), k)


def stabilise_quant_scatter() -> None:
    """Slots just outside the table on either side, and far away."""
    from predawn.kernels.stabilise_quant_scatter import empty_slots
    from predawn.kernels.stabilise_quant_scatter_triton import stabilise_quant_scatter_triton

    slots = copied(torch.tensor([-1, 0, 2, 3, 2**40, -(2**63)]))
    sequence = copied(torch.arange(6))
    for dtype, kept, weight in ((torch.int8, 2, None), (HALF, 1, None), (torch.int8, 0, 0.5)):
        table = empty_slots(3, 5, dtype=dtype, kept=kept)
        held = (table.served, table.scale, table.kept, table.latest)
        new = copied(torch.ones(6, 5))
        stabilise_quant_scatter_triton(new, slots, sequence, *held, weight, 1.0, True)


def read_past_the_end() -> None:
    """What the test must catch: one element too many."""
    tensor = guarded((3,), torch.float32)
    ctypes.string_at(tensor.data_ptr(), 16)


def test_planted_read_past_the_end_is_caught() -> None:
    assert run(__file__, "read_past_the_end") == -signal.SIGSEGV


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs Triton to interpret, not a GPU")
def test_kernels_stay_inside_their_tensors() -> None:
    pytest.importorskip("triton", reason="needs Triton")
    assert run(__file__, "run_kernels") == 0
