"""score_topk's kernels: the very items that the reference finds, however they are sliced.

Vectors are small integers, so scores are exact and ties are many.
"""

from collections.abc import Iterator

import pytest
import torch
from interpreted import DEVICE
from reversed_programs import reversed_programs

from predawn.bench.gpu_cases_lookup import TopkShape, topk_case
from predawn.bench.gpu_numerics import judge, judge_case, poisoned_memory
from predawn.kernels import score_topk_triton as triton_half
from predawn.kernels.score_topk import K_MAX, WIDTH_MAX, score_topk_reference
from predawn.kernels.score_topk_triton import SETTINGS, constants, score_topk_triton, slices

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32
INF = float("inf")


@pytest.fixture(autouse=True)
def _small_merges(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few keys a merge: quick in the interpreter, and lists take more than one round."""
    if DEVICE == "cpu":
        monkeypatch.setattr(triton_half, "_MERGED", 32)
    yield


def _inputs(
    users: int, items: int, width: int, dtype: torch.dtype = FULL
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(users + items + width)
    drawn = (
        torch.randint(-2, 3, size, generator=dice) for size in ((users, width), (items, width))
    )
    bias = torch.randint(-3, 4, (items,), generator=dice)
    return (*(values.to(DEVICE, dtype) for values in drawn), bias.to(DEVICE, FULL))


def _same(
    users: torch.Tensor, items: torch.Tensor, bias: torch.Tensor | None, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The kernels' result, which is bitwise that of the float64 reference."""
    wide = None if bias is None else bias.double()
    scores, index = score_topk_reference(users.double(), items.double(), wide, k)
    with poisoned_memory():
        found, found_index = score_topk_triton(users, items, bias, k)
    assert torch.equal(found.double(), scores)
    assert torch.equal(found_index, index)
    return found, found_index


@pytest.mark.parametrize(
    "shape", [TopkShape(3, 300, 24, 5, FULL), TopkShape(2, 90, 16, 8)], ids=str
)
def test_kernel_is_as_exact_as_torch(shape: TopkShape) -> None:
    case = topk_case(shape, DEVICE)
    verdict = judge_case(case)
    assert verdict.good, verdict
    truth = case.truth()
    assert not judge(torch.zeros_like(truth), case.plain(), truth, case.tolerance).good


@pytest.mark.parametrize(
    ("users", "items", "width", "k", "dtype"),
    [
        (3, 300, 8, 8, FULL),
        (2, 129, 20, 5, HALF),
        (1, 256, 3, 16, BRAIN),
        (2, 1, 1, 1, FULL),
        (2, 5, 4, 9, FULL),
    ],
)
@pytest.mark.parametrize("biased", [False, True])
def test_items_are_those_of_the_reference(
    users: int, items: int, width: int, k: int, dtype: torch.dtype, biased: bool
) -> None:
    rows, table, bias = _inputs(users, items, width, dtype)
    _same(rows, table, bias if biased else None, k)


def test_more_users_than_a_tile() -> None:
    users, items, _ = _inputs(34, 70, 8)  # 34: the settings of many users
    assert constants(8, 34, 1, 4, False)["BLOCK_U"] == SETTINGS[4, False].block_u < 34
    _same(users, items, None, 1)


def test_ascending_scores_replace_every_key() -> None:
    items = torch.arange(150.0, device=DEVICE)[:, None]
    _, index = _same(torch.ones(1, 1, device=DEVICE), items, None, 8)
    assert index.tolist() == [list(range(149, 141, -1))]


def test_equal_scores_go_to_the_lower_index() -> None:
    zeros = torch.zeros(200, 2, device=DEVICE)
    zeros[::2] = -0.0
    _, index = _same(torch.ones(1, 2, device=DEVICE), zeros, None, 8)
    assert index.tolist() == [list(range(8))]


def test_infinite_and_nan_scores() -> None:
    users, items, bias = _inputs(2, 140, 4)
    bias[:] = -INF
    scores, index = _same(users, items, bias, 4)  # all -inf: still real items
    assert index.tolist() == [[0, 1, 2, 3]] * 2
    bias[[5, 130, 139]] = torch.tensor([float("nan"), INF, 1e30], device=DEVICE)
    scores, index = _same(users, items, bias, 4)
    assert scores[0].tolist() == [INF, float(torch.tensor(1e30)), -INF, -INF]
    assert index[0].tolist() == [130, 139, 0, 1]


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    users, items, bias = _inputs(2, 1100, 4)
    parts: list[int] = []
    for programs in (1, 3, 264):
        monkeypatch.setattr(triton_half, "PROGRAMS", programs)
        parts.append(slices(2, 1100, 16, SETTINGS[4, True].block_i)[0])
        _same(users, items, bias, 6)
    assert parts == [1, 3, 9]


@pytest.mark.parametrize("items", [0, 1, 127, 128, 129, 1000, 10**6])
@pytest.mark.parametrize("users", [0, 1, 16, 1024])
def test_slices_are_whole_tiles_and_cover_the_items(users: int, items: int) -> None:
    parts, each = slices(users, items, 16, 128)
    assert each % 128 == 0
    assert (parts - 1) * each < max(1, items) <= parts * each


def test_users_do_not_depend_on_their_neighbours() -> None:
    users, items, bias = _inputs(3, 60, 8)
    whole = score_topk_triton(users, items, bias, 4)
    for user in range(3):
        alone = score_topk_triton(users[user : user + 1], items, bias, 4)
        assert torch.equal(alone[0][0], whole[0][user])
        assert torch.equal(alone[1][0], whole[1][user])


def test_order_of_programs_does_not_matter() -> None:
    users, items, bias = _inputs(2, 500, 4)
    forward = score_topk_triton(users, items, bias, 4)
    with reversed_programs():
        backward = score_topk_triton(users, items, bias, 4)
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))


def test_no_users_give_no_rows_and_no_items_give_none() -> None:
    users, items, bias = _inputs(2, 6, 4)
    assert score_topk_triton(users[:0], items, bias, 4)[1].shape == (0, 4)
    _, index = _same(users, items[:0], bias[:0], 3)
    assert index.tolist() == [[-1] * 3] * 2


def test_every_shape_that_is_let_through_has_settings() -> None:
    for size, widest in WIDTH_MAX.items():
        for users in (1, 1000):
            assert constants(widest, users, K_MAX, size, True)["BLOCK_P"] >= widest
