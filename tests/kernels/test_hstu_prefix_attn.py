"""hstu_prefix_attn: the reference is the formula, work lists cover every row and key once."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import silu

from predawn.kernels.hstu_prefix_attn import (
    PAGE,
    TILINGS,
    Rows,
    Tiling,
    hstu_prefix_attn,
    hstu_prefix_attn_reference,
    rows_of,
    tiling_of,
)

HEADS, DIM, ALPHA, INV_N = 2, 3, 0.4, 0.25
SMALL = Tiling(rows=4, keys=32, chunk=64, causal_chunk=128, warps=4, stages=2)


def _pages_of(prefix: Sequence[int], rows: Sequence[int]) -> list[list[int]]:
    """As many pages as history and new rows need, the highest numbers first."""
    needed = [-(-(p + n) // PAGE) for p, n in zip(prefix, rows, strict=True)]
    order = list(range(sum(needed), 0, -1))
    return [[order.pop() for _ in range(count)] for count in needed]


def _rows(prefix: Sequence[int], rows: Sequence[int], tiling: Tiling | None = None) -> Rows:
    offsets = [0, *accumulate(rows)]
    return rows_of(offsets, prefix, _pages_of(prefix, rows), "cpu", DIM, torch.float64, tiling)


def _inputs(rows: Rows, pages: int = 12) -> list[torch.Tensor]:
    """q, k, v of one product, and pages."""
    dice = torch.Generator().manual_seed(1)
    product = torch.randn(rows.offsets[-1], 4, HEADS, DIM, generator=dice, dtype=torch.float64)
    held = torch.randn(pages, 2, HEADS, PAGE, DIM, generator=dice, dtype=torch.float64)
    return [product[:, 2], product[:, 3], product[:, 1], held]


def _naive(tensors: list[torch.Tensor], rows: Rows, user: int, row: int, causal: bool) -> list:
    """One row, key by key: the twin of the reference. [H, d]."""
    q, k, v, pages = tensors
    begin = rows.offsets[user]
    out = []
    for head in range(HEADS):
        seen = [
            (pages[page, 0, head, t % PAGE], pages[page, 1, head, t % PAGE])
            for t in range(rows.prefix[user])
            for page in [int(rows.page_table[user, t // PAGE])]
        ]
        new = range(begin, row + 1) if causal else [row]
        seen += [(silu(k[other, head]), silu(v[other, head])) for other in new]
        mine = silu(q[row, head])
        weighed = [silu(ALPHA * (mine * key).sum()) * value for key, value in seen]
        out.append((sum(weighed) * INV_N).tolist())  # type: ignore[union-attr]
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_reference_is_the_formula_of_every_row(causal: bool) -> None:
    rows = _rows([0, 1, 64, 70, 129], [3, 2, 0, 1, 4])
    tensors = _inputs(rows)
    out = hstu_prefix_attn(*tensors, rows, alpha=ALPHA, inv_n=INV_N, causal=causal)
    assert out.shape == (10, HEADS, DIM)
    for user in range(5):
        for row in range(rows.offsets[user], rows.offsets[user + 1]):
            assert out[row].tolist() == [
                pytest.approx(head, rel=1e-12) for head in _naive(tensors, rows, user, row, causal)
            ]


def test_gradients_flow_through_the_public_function() -> None:
    rows = _rows([3, 0], [2, 3])
    q, k, v, pages = (tensor.clone().requires_grad_() for tensor in _inputs(rows, pages=3))

    def attend(*tensors: torch.Tensor) -> torch.Tensor:
        return hstu_prefix_attn(*tensors, pages, rows, alpha=ALPHA, inv_n=INV_N, causal=True)

    assert torch.autograd.gradcheck(attend, (q, k, v))


def test_no_users_and_no_rows_give_no_rows() -> None:
    for rows in (_rows([], []), _rows([5, 0], [0, 0])):
        out = hstu_prefix_attn(*_inputs(rows), rows, alpha=ALPHA, inv_n=INV_N, causal=False)
        assert out.shape == (0, HEADS, DIM)


@settings(max_examples=60, deadline=None)
@given(users=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 11)), max_size=5))
def test_tiles_cover_every_row_and_key_once(users: list[tuple[int, int]]) -> None:
    prefix, counts = [p for p, _ in users], [n for _, n in users]
    rows = _rows(prefix, counts, SMALL)
    for work, chunk, causal in ((rows.score, 64, False), (rows.written, 128, True)):
        seen: dict[int, list[tuple[int, int]]] = {}
        slots: list[int] = []
        for row, count, user, begin, end, slot, held, first in work.tiles.tolist():
            assert (held, first) == (prefix[user], rows.offsets[user])
            assert first <= row < row + count <= rows.offsets[user + 1] and count <= SMALL.rows
            assert begin % chunk == 0 and end - begin <= chunk
            slots += [slot] if slot >= 0 else []
            last = held + (row + count - first if causal else 0)
            assert (slot == -1) == (last <= chunk)
            for at in range(row, row + count):
                seen.setdefault(at, []).append((begin, end))
                assert end <= last
        assert sorted(slots) == list(range(work.partials))
        assert sorted(seen) == list(range(rows.offsets[-1]))
        for spans in seen.values():
            ordered = sorted(spans)
            assert ordered[0][0] == 0
            assert all(a[1] == b[0] for a, b in pairwise(ordered))


@settings(max_examples=40, deadline=None)
@given(users=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 11)), max_size=5))
def test_sums_add_each_rows_partials_in_order_of_keys(users: list[tuple[int, int]]) -> None:
    rows = _rows([p for p, _ in users], [n for _, n in users], SMALL)
    for work in (rows.score, rows.written):
        tiles = {(*tile[:2], tile[5]): tile[3] for tile in work.tiles.tolist()}
        for row, count, slot, chunks in work.sums.tolist():
            begins = [tiles.pop((row, count, number)) for number in range(slot, slot + chunks)]
            assert begins == sorted(begins) and len(begins) > 1
        assert all(slot == -1 for _, _, slot in tiles)


def test_tiles_of_many_keys_come_first() -> None:
    rows = _rows([10, 300, 0], [5, 9, 5], SMALL)
    lengths = [tile[4] - tile[3] for tile in rows.written.tiles.tolist()]
    assert lengths == sorted(lengths, reverse=True)


def test_tiling_does_not_depend_on_the_batch() -> None:
    cut = [rows_of([0, n, n], [0, 0], [[0], []], "cpu", 128).tiling for n in (0, 1, 33, 999)]
    assert cut == [TILINGS[2, 128, True]] * 4


def test_every_shape_class_has_settings() -> None:
    assert tiling_of(torch.float32, 128, True) == TILINGS[4, 128, False]
    assert tiling_of(torch.float16, 33, False) == TILINGS[2, 64, False]
    for tiling in TILINGS.values():
        assert PAGE % tiling.keys == 0
        assert tiling.chunk % PAGE == tiling.causal_chunk % PAGE == 0


def test_table_names_each_users_pages() -> None:
    rows = rows_of([0, 1, 1, 2], [70, 0, 1], [[3, 9], [], [4]], "cpu", 32)
    assert rows.page_table.tolist() == [[3, 9], [0, 0], [4, 0]]
    assert rows.page_table.dtype == torch.int32
    assert rows.page_table.data_ptr() % 16 == 0 == rows.score.tiles.data_ptr() % 16


@pytest.mark.parametrize(
    ("offsets", "prefix", "pages", "fault"),
    [
        ([0, 1], [1, 2], [[1], [2]], "offsets .* lengths 2, 2, 2"),
        ([1, 2], [1], [[1]], "offsets .* from 0"),
        ([0, 2, 1], [1, 1], [[1], [1]], "offsets descend"),
        ([0, 1], [65], [[1]], "do not hold the prefix"),
        ([0, 1], [-1], [[1]], "do not hold the prefix"),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    offsets: list[int], prefix: list[int], pages: list[list[int]], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        rows_of(offsets, prefix, pages, "cpu", 32)


def test_tensors_that_do_not_fit_are_refused() -> None:
    rows = _rows([3, 0], [2, 3])
    q, k, v, pages = _inputs(rows)

    def attend(*tensors: torch.Tensor, causal: bool = True, written: bool = False) -> None:
        hstu_prefix_attn(*tensors, rows, alpha=1, inv_n=1, causal=causal, written=written)

    for wrong in ((q[:, :1], k, v, pages), (q, k, v[..., :2], pages), (q, k, v, pages[:, :1])):
        with pytest.raises(ValueError, match=r"needs q, k, v \[R, H, d\] and pages"):
            attend(*wrong)
    with pytest.raises(ValueError, match="4 rows, offsets end at 5"):
        attend(q[1:], k[1:], v[1:], pages)
    with pytest.raises(ValueError, match="needs one dtype"):
        attend(q, k.float(), v, pages)
    with pytest.raises(ValueError, match="page 2 of 2"):
        attend(q, k, v, pages[:2])
    with pytest.raises(ValueError, match="written rows are for causal"):
        attend(q, k, v, pages, causal=False, written=True)


def test_written_rows_need_places_in_the_pages() -> None:
    full = rows_of([0, 1], [64], [[1]], "cpu", DIM, torch.float64)
    with pytest.raises(ValueError, match="need places"):
        hstu_prefix_attn(*_inputs(full), full, alpha=1, inv_n=1, causal=True, written=True)


def test_results_keep_the_dtype_and_are_contiguous() -> None:
    rows = _rows([3], [2])
    halves = [tensor.bfloat16() for tensor in _inputs(rows)]
    out = hstu_prefix_attn_reference(*halves, rows, alpha=ALPHA, inv_n=INV_N, causal=False)
    assert out.dtype == torch.bfloat16 and out.is_contiguous()


def test_cpu_calls_do_not_import_triton() -> None:
    code = """
import sys, torch
from predawn.kernels.hstu_prefix_attn import hstu_prefix_attn, rows_of
from predawn.kernels.kv_write import kv_write
from predawn.kernels.norm_gate import norm_gate
x, pages = torch.ones(2, 1, 32), torch.ones(1, 2, 1, 64, 32)
kv_write(x, x, pages, torch.arange(2))
rows = rows_of([0, 2], [2], [[0]], "cpu", 32)
out = hstu_prefix_attn(x, x, x, pages, rows, alpha=1.0, inv_n=1.0, causal=True)
norm_gate(out[:, 0], x[:, 0], torch.ones(32), torch.ones(32), 1e-5)
sys.exit("triton" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
