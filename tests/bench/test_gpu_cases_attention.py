"""The attention's cases: all ways to a result agree, and bytes and FLOP are counted right."""

import interpreted
import pytest
import torch

from predawn.bench.gpu_cases import Case
from predawn.bench.gpu_cases_attention import (
    AttnShape,
    RowsShape,
    attn_case,
    attn_inputs,
    kv_write_case,
    norm_gate_case,
)
from predawn.kernels.hstu_prefix_attn import PAGE, Tiling

CUT = Tiling(rows=16, keys=32, chunk=64, causal_chunk=64, warps=4, stages=2)
SCORE = AttnShape((70, 70), (3, 3), 2, 32, tiling=CUT)
ENCODE = AttnShape((0,), (40,), 2, 32, causal=True, written=True, tiling=CUT)
CASES = [
    attn_case(SCORE, interpreted.DEVICE),
    attn_case(ENCODE, interpreted.DEVICE),
    attn_case(AttnShape((70,), (3,), 1, 32, causal=True, tiling=CUT), interpreted.DEVICE),
    norm_gate_case(RowsShape(5, 2, 32), interpreted.DEVICE),
    kv_write_case(RowsShape(PAGE, 2, 16), interpreted.DEVICE),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_peers_and_reference_agree(case: Case) -> None:
    truth = case.truth()
    assert truth.dtype == torch.float64 and case.peers
    for way in (case.kernel, case.plain, *case.peers.values()):
        assert torch.allclose(way().double(), truth, rtol=1e-4, atol=1e-5)


def test_users_of_different_sizes_have_no_dense_peer() -> None:
    case = attn_case(AttnShape((70, 3), (3, 3), 1, 32, tiling=CUT), interpreted.DEVICE)
    assert (case.peers, case.yardsticks) == ({}, {})


def test_score_counts_each_candidates_keys_and_each_history_once() -> None:
    width = 2 * 32
    assert CASES[0].flop == 4 * 6 * (70 + 1) * width
    assert CASES[0].bytes == 4 * width * (4 * 6 + 2 * 2 * 70)


def test_encode_counts_half_of_the_square() -> None:
    assert CASES[1].flop == 4 * (40 * 41 // 2) * 2 * 32
    assert CASES[1].bytes == 4 * 2 * 32 * 4 * 40


def test_yardstick_is_as_large_as_the_case() -> None:
    for case, shape in ((CASES[0], (2, 2, 3, 32)), (CASES[1], (1, 2, 40, 32))):
        assert [call().shape for call in case.yardsticks.values()] == [shape]


def test_rows_count_what_is_read_and_written() -> None:
    assert CASES[3].bytes == 4 * 64 * (3 * 5 + 2)
    assert CASES[4].bytes == 4 * 4 * PAGE * 32 + 8 * PAGE


def test_names_say_the_mode() -> None:
    assert [case.name.split()[1] for case in CASES[:3]] == ["score", "encode", "append"]


def test_inputs_are_views_of_one_product_and_pages_are_shuffled() -> None:
    given, again = (attn_inputs(AttnShape((300,), (9,), 2, 32), "cpu", 5) for _ in "ab")
    assert given.q.stride() == given.k.stride() == given.v.stride() == (4 * 64, 32, 1)
    pages = given.rows.page_table[0].tolist()
    assert pages != sorted(pages) and sorted(pages) == [1, 2, 3, 4, 5]
    assert torch.equal(given.q, again.q) and torch.equal(
        given.pages[1:2, 0, 0, 0], again.pages[1:2, 0, 0, 0]
    )
