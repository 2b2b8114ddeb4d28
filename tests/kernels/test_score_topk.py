"""score_topk: the reference is the formula with its order of ties, NaN and absent items."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.kernels import score_topk as module
from predawn.kernels.score_topk import score_topk, score_topk_reference

INF = float("inf")


def _naive(scores: list[float], k: int) -> tuple[list[float], list[int]]:
    """By sorting pairs: the twin of the reference."""
    ranked = sorted((-INF if s != s else s, -i) for i, s in enumerate(scores))[::-1][:k]
    missing = max(0, k - len(scores))
    return [s for s, _ in ranked] + [-INF] * missing, [-i for _, i in ranked] + [-1] * missing


@settings(max_examples=60, deadline=None)
@given(
    bias=st.lists(st.sampled_from([-2.0, -0.0, 0.0, 1.0, 3.5, INF, -INF, float("nan")])),
    k=st.integers(1, 9),
    block=st.integers(1, 7),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_reference_equals_its_naive_twin(
    bias: list[float], k: int, block: int, dtype: torch.dtype
) -> None:
    users = torch.ones(1, 1, dtype=dtype)
    items = torch.zeros(len(bias), 1, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_SCORES", block)
        scores, index = score_topk_reference(users, items, torch.tensor(bias, dtype=dtype), k)
    expected, expected_index = _naive(bias, k)
    assert scores.tolist() == [expected]
    assert index.tolist() == [expected_index]


def test_scores_are_inner_products_plus_bias() -> None:
    users = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
    scores, index = score_topk(users, items, None, 2)
    assert (scores.tolist(), index.tolist()) == ([[9.0, 2.0], [0.0, -1.0]], [[2, 1], [0, 1]])
    scores, index = score_topk(users, items, torch.tensor([9.0, 0.0, 0.0]), 1)
    assert (scores.tolist(), index.tolist()) == ([[10.0], [9.0]], [[0], [0]])


def test_half_vectors_are_summed_in_float32() -> None:
    users, items = torch.full((1, 4096), 1.0).half(), torch.full((2, 4096), 1.0).half()
    items[1, 0] = 2.0
    scores, index = score_topk(users, items, None, 2)
    assert (scores.tolist(), index.tolist()) == ([[4097.0, 4096.0]], [[1, 0]])


def test_no_users_and_no_items() -> None:
    assert score_topk(torch.zeros(0, 2), torch.zeros(3, 2), None, 2)[1].shape == (0, 2)
    scores, index = score_topk(torch.zeros(1, 2), torch.zeros(0, 2), None, 2)
    assert (scores.tolist(), index.tolist()) == ([[-INF, -INF]], [[-1, -1]])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"users": torch.zeros(2, 4)}, r"needs users \[U, p\] and items \[I, p\]"),
        ({"items": torch.zeros(3)}, r"needs users \[U, p\] and items \[I, p\]"),
        ({"items": torch.zeros(5, 3).half()}, "of one float dtype, got .*float32 and .*float16"),
        ({"bias": torch.zeros(4)}, r"needs bias \[5\], got \(4,\)"),
        ({"bias": torch.zeros(5).half()}, "needs bias torch.float32 or float32, got"),
        ({"k": 0}, "needs k of at least 1, got 0"),
        ({"items": torch.zeros(1, 3).expand(2**31, 3), "bias": None}, "at most 2147483647 items"),
    ],
)
def test_wrong_argument_is_named(change: dict[str, torch.Tensor], why: str) -> None:
    given = {"users": torch.zeros(2, 3), "items": torch.zeros(5, 3), "bias": torch.zeros(5)}
    with pytest.raises(ValueError, match=f"score_topk .*{why}"):
        score_topk(**({"k": 2} | given | change))
