"""The judge of kernels: lets rounding through, and nothing else."""

import interpreted
import pytest
import torch

from predawn.bench.gpu_numerics import judge, poisoned_memory

TRUTH = torch.linspace(-2, 2, 101, dtype=torch.float64)
PLAIN = TRUTH.float()


def test_rounding_is_good() -> None:
    assert judge(TRUTH.float(), PLAIN, TRUTH, 1e-6).good


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros_like(PLAIN),
        PLAIN.clone().index_fill(0, torch.tensor(3), torch.nan),
        PLAIN.clone().index_fill(0, torch.tensor(3), 0.0),
        PLAIN * 1.001,
        PLAIN.flip(0),
    ],
    ids=["zeros", "one not written", "one zero", "a thousandth too large", "order"],
)
def test_wrong_results_are_not_good(wrong: torch.Tensor) -> None:
    assert not judge(wrong, PLAIN, TRUTH, 1e-6).good


def test_truth_too_small_to_tell_from_zeros_is_not_good() -> None:
    assert not judge(PLAIN * 1e-5, PLAIN * 1e-5, TRUTH * 1e-5, 1e-6).good


def test_other_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected"):
        judge(PLAIN[1:], PLAIN, TRUTH, 1e-6)


def test_memory_is_poisoned_inside_and_only_there() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with poisoned_memory():
        assert torch.isnan(torch.empty(1000, device=interpreted.DEVICE)).all()
        like = torch.zeros(1000, device=interpreted.DEVICE)
        assert torch.isnan(torch.empty_like(like)).all()
    assert torch.are_deterministic_algorithms_enabled() == before
