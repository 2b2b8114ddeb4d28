"""hstu_prefix_attn's kernel: right at every jagged shape, and every row depends on its own user's
history and its own values alone, to the last bit."""

from dataclasses import replace

import pytest
import torch
from interpreted import DEVICE
from reversed_programs import reversed_programs
from rowwise_dots import rowwise_dots

from predawn.bench.gpu_cases_attention import AttnInputs, AttnShape, attn_case, attn_inputs
from predawn.bench.gpu_numerics import judge, judge_case
from predawn.kernels.hstu_prefix_attn import (
    HEAD_DIMS,
    PAGE,
    TILINGS,
    Rows,
    Tiling,
    attend,
    hstu_prefix_attn_reference,
    rows_of,
)
from predawn.kernels.hstu_prefix_attn_triton import constants
from predawn.kernels.kv_write_triton import kv_write_triton

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
SMALL = Tiling(rows=16, keys=32, chunk=64, causal_chunk=128, warps=4, stages=2)
EXTREME = ((0, 1, 31, 32, 33, 64, 65, 130), (5, 1, 16, 33, 0, 5, 1, 16))
MODES = [(False, False), (True, False), (True, True)]
MODE_NAMES = ["score", "beside", "written"]


def _shape(
    prefix: tuple[int, ...], rows: tuple[int, ...], mode: tuple[bool, bool] = (False, False)
) -> AttnShape:
    return AttnShape(prefix, rows, 2, 32, FULL, *mode, tiling=SMALL)


def _run(
    given: AttnInputs,
    rows: Rows,
    which: torch.Tensor | slice,
    causal: bool = False,
    written: bool = False,
) -> torch.Tensor:
    """The rows `which` of q, k and v, cut as `rows` says."""
    tensors = [tensor[which] for tensor in (given.q, given.k, given.v)]
    numbers = {"alpha": given.alpha, "inv_n": given.inv_n}
    return attend(*tensors, given.pages, rows, **numbers, causal=causal, written=written)


@pytest.mark.parametrize("dtype", [FULL, BRAIN, HALF], ids=str)
@pytest.mark.parametrize("mode", MODES, ids=MODE_NAMES)
def test_kernel_is_as_exact_as_torch(mode: tuple[bool, bool], dtype: torch.dtype) -> None:
    verdict = judge_case(attn_case(replace(_shape(*EXTREME, mode), dtype=dtype), DEVICE))
    assert verdict.good, verdict


@pytest.mark.parametrize("mode", MODES, ids=MODE_NAMES)
@pytest.mark.parametrize(
    ("prefix", "rows", "heads", "dim"),
    [
        ((0,), (1,), 1, 32),
        ((3, 0, 700, 1, 2), (1, 1, 40, 0, 2), 1, 32),
        ((200,), (70,), 1, 64),
        ((70, 40), (18, 3), 3, 128),
        ((0, 0), (80, 17), 1, 32),
    ],
    ids=["one", "one giant", "longer than a chunk", "wide", "no history"],
)
def test_jagged_extremes(
    prefix: tuple[int, ...], rows: tuple[int, ...], heads: int, dim: int, mode: tuple[bool, bool]
) -> None:
    shape = AttnShape(prefix, rows, heads, dim, FULL, *mode, tiling=SMALL)
    verdict = judge_case(attn_case(shape, DEVICE))
    assert verdict.good, verdict


def test_zeros_would_not_have_passed() -> None:
    case = attn_case(_shape(*EXTREME), DEVICE)
    truth = case.truth()
    assert not judge(torch.zeros_like(case.plain()), case.plain(), truth, 0.5).good
    assert judge(case.plain(), case.plain(), truth, case.tolerance).good


@pytest.mark.parametrize("tiling", [TILINGS[4, 32, False], TILINGS[2, 32, True]], ids=str)
def test_serving_settings_are_right(tiling: Tiling) -> None:
    shape = AttnShape((600, 5), (20, 130), 1, 32, BRAIN, tiling=tiling)
    verdict = judge_case(attn_case(shape, DEVICE))
    assert verdict.good, verdict


def test_no_rows_give_no_rows() -> None:
    for prefix, counts in (((5, 70), (0, 0)), ((0,), (0,))):
        given = attn_inputs(replace(_shape((70,), (3,)), prefix=(70,)), DEVICE)
        rows = rows_of([0] * (len(counts) + 1), prefix, [[1, 2]] * len(prefix), DEVICE, 32)
        assert _run(given, rows, slice(0)).shape == (0, 2, 32)


def _split_and_permuted(dim: int, dtype: torch.dtype, tiling: Tiling) -> None:
    """23 candidates against one history: whole, as 5 + 7 + 11, and in another order."""
    given = attn_inputs(AttnShape((130,), (23,), 2, dim, dtype, tiling=tiling), DEVICE)
    pages = [given.rows.page_table[0].tolist()]

    def cut(count: int) -> Rows:
        return rows_of([0, count], [130], pages, DEVICE, dim, dtype, tiling)

    whole = _run(given, given.rows, slice(None))
    parts = [(0, 5), (5, 12), (12, 23)]
    split = [_run(given, cut(end - begin), slice(begin, end)) for begin, end in parts]
    assert torch.equal(torch.cat(split), whole)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    assert torch.equal(_run(given, cut(23), order), whole[order])


@pytest.mark.parametrize("tiling", [SMALL, TILINGS[4, 32, False], TILINGS[2, 32, True]], ids=str)
@rowwise_dots()
def test_splitting_and_permuting_candidates_changes_no_bit(tiling: Tiling) -> None:
    _split_and_permuted(32, FULL, tiling)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("served", TILINGS, ids=str)
def test_splitting_and_permuting_changes_no_bit_as_served(served: tuple[int, int, bool]) -> None:
    size, dim, _ = served
    _split_and_permuted(dim, BRAIN if size == 2 else FULL, TILINGS[served])


@pytest.mark.parametrize("mode", MODES, ids=MODE_NAMES)
@rowwise_dots()
def test_other_users_change_no_bit(mode: tuple[bool, bool]) -> None:
    causal, written = mode
    given = attn_inputs(_shape((200, 3, 70), (9, 40, 17), mode), DEVICE)
    if written:
        kv_write_triton(given.k, given.v, given.pages, given.slots)
    whole = _run(given, given.rows, slice(None), causal, written)
    for user, (begin, end) in enumerate([(0, 9), (9, 49), (49, 66)]):
        table = [given.rows.page_table[user].tolist()]
        own = rows_of([0, end - begin], [given.rows.prefix[user]], table, DEVICE, 32, FULL, SMALL)
        alone = _run(given, own, slice(begin, end), causal, written)
        assert torch.equal(alone, whole[begin:end])


@rowwise_dots()
def test_appending_equals_encoding_at_once() -> None:
    """Written rows: to the last bit; rows beside the pages: in another order of sums."""
    given = attn_inputs(_shape((0,), (150,), (True, True)), DEVICE)
    kv_write_triton(given.k, given.v, given.pages, given.slots)
    pages = [given.rows.page_table[0].tolist()]
    numbers = {"alpha": given.alpha, "inv_n": given.inv_n, "causal": True}

    def appended(begin: int, end: int, written: bool) -> torch.Tensor:
        rows = rows_of([0, end - begin], [begin], pages, DEVICE, 32, FULL, SMALL)
        tensors = [tensor[begin:end] for tensor in (given.q, given.k, given.v)]
        return attend(*tensors, given.pages, rows, **numbers, written=written)

    whole = appended(0, 150, True)
    parts = [(0, 1), (1, 70), (70, 86), (86, 150)]
    assert torch.equal(torch.cat([appended(*part, True) for part in parts]), whole)
    beside = torch.cat([appended(*part, False) for part in parts])
    assert float((beside - whole).norm()) <= 1e-5 * float(whole.norm())


def test_two_runs_and_the_order_of_programs_change_no_bit() -> None:
    given = attn_inputs(_shape(*EXTREME), DEVICE)
    forward = _run(given, given.rows, slice(None))
    assert torch.equal(_run(given, given.rows, slice(None)), forward)
    with reversed_programs():
        assert torch.equal(_run(given, given.rows, slice(None)), forward)


def test_tiles_and_sums_of_no_rows_do_nothing() -> None:
    """A graph's work lists may be longer than the work."""
    given = attn_inputs(_shape((70, 3), (20, 2)), DEVICE)
    work = given.rows.score
    tiles = torch.cat([work.tiles, work.tiles.new_zeros(3, 8)])
    sums = torch.cat([work.sums, work.sums.new_zeros(2, 4)])
    longer = replace(given.rows, score=replace(work, tiles=tiles, sums=sums))
    assert work.partials
    assert torch.equal(_run(given, longer, slice(None)), _run(given, given.rows, slice(None)))


def test_strides_of_their_own_are_read_as_they_are() -> None:
    given = attn_inputs(_shape((40,), (7,)), DEVICE)
    turned = replace(given, k=given.k.transpose(0, 1).contiguous().transpose(0, 1))
    assert turned.k.stride() != given.k.stride() and not given.q.is_contiguous()
    assert torch.equal(_run(turned, given.rows, slice(None)), _run(given, given.rows, slice(None)))


def test_unused_places_are_never_read() -> None:
    given = attn_inputs(_shape((1, 65), (3, 3)), DEVICE)
    assert torch.isnan(given.pages).any()
    assert torch.isfinite(_run(given, given.rows, slice(None))).all()
    assert torch.isfinite(
        hstu_prefix_attn_reference(
            given.q, given.k, given.v, given.pages, given.rows, alpha=1, inv_n=1, causal=False
        )
    ).all()


def test_every_dimension_that_is_let_through_has_settings() -> None:
    for dim in HEAD_DIMS:
        for many in (False, True):
            fixed = constants(4, dim, (512, dim), 2, TILINGS[2, dim, many])
            assert PAGE % int(str(fixed["BLOCK_N"])) == 0
        assert (4, dim, False) in TILINGS
