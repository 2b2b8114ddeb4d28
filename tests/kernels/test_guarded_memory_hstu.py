"""hstu_prefix_attn, norm_gate and kv_write read and write no byte past their tensors."""

import signal
from dataclasses import replace

import pytest
import torch
from guarded_memory import copied, guard_allocations, run

FULL, HALF = torch.float32, torch.float16


def run_attention(beyond: int = 0) -> None:
    """No tile is full, the last page of the pages is in use up to its last place; `beyond`: more
    tokens of the history than the pages hold."""
    import interpreted

    from predawn.bench.gpu_cases_attention import AttnShape, attn_inputs
    from predawn.kernels.hstu_prefix_attn import Tiling, attend

    assert interpreted.DEVICE == "cpu"
    cut = Tiling(rows=16, keys=32, chunk=64, causal_chunk=64, warps=4, stages=2)
    for dtype, causal, written in ((FULL, False, False), (HALF, True, False), (FULL, True, True)):
        shape = AttnShape((128, 70), (64, 5), 1, 32, dtype, causal, written, cut)
        given = attn_inputs(shape, "cpu")
        guard_allocations()
        product = copied(torch.stack([given.q, given.v, given.k], dim=1))
        pages, rows = copied(given.pages.nan_to_num(0)), given.rows
        score, table = rows.score.tiles.clone(), rows.page_table
        score[:, 4] += beyond * (score[:, 4] == 128)
        rows = replace(
            rows,
            page_table=copied(table),
            score=replace(rows.score, tiles=copied(score), sums=copied(rows.score.sums)),
            written=replace(
                rows.written, tiles=copied(rows.written.tiles), sums=copied(rows.written.sums)
            ),
        )
        attend(
            product[:, 0], product[:, 2], product[:, 1], pages, rows,
            alpha=0.1, inv_n=0.1, causal=causal, written=written,
        )  # fmt: skip


def run_rows() -> None:
    """Widths that fill no tile; slots just outside the pages, and the first and last inside."""
    import interpreted

    from predawn.kernels.hstu_prefix_attn import PAGE
    from predawn.kernels.kv_write_triton import kv_write_triton
    from predawn.kernels.norm_gate_triton import norm_gate_triton

    assert interpreted.DEVICE == "cpu"
    guard_allocations()
    for dtype in (FULL, HALF):
        product = copied(torch.ones(7, 2, 3, 5, dtype=dtype))
        gate, attn = product.view(7, 30)[:, 15:], copied(torch.ones(7, 15, dtype=dtype))
        norm_gate_triton(attn, gate, copied(attn[0]), copied(attn[1]), 1e-5)
        pages = copied(torch.ones(2, 2, 3, PAGE, 5, dtype=dtype))
        slots = copied(torch.tensor([2 * PAGE - 1, 0, -1, 2 * PAGE, 2**62, -(2**63), PAGE]))
        kv_write_triton(product[:, 0], product[:, 1], pages, slots)


def run_attention_beyond() -> None:
    """What the test must catch: a page that the table does not name."""
    run_attention(beyond=2**20)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs Triton to interpret, not a GPU")
@pytest.mark.parametrize("name", ["attention", "rows"])
def test_kernels_stay_inside_their_tensors(name: str) -> None:
    pytest.importorskip("triton", reason="needs Triton")
    assert run(__file__, f"run_{name}") == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs Triton to interpret, not a GPU")
def test_planted_read_past_the_table_is_caught() -> None:
    pytest.importorskip("triton", reason="needs Triton")
    assert run(__file__, "run_attention_beyond") == -signal.SIGSEGV
