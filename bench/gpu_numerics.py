"""How far a kernel's result is from the truth, and whether the test could have failed at all.

A result is good if it is finite, its norm-relative error is within the case's tolerance, its
largest error at most twice that of the plain torch path in the same dtype (or within the
tolerance of the largest value), and the truth is of a size at which zeros would not have passed.
Memory that a kernel leaves unwritten is NaN while it is judged.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from predawn.bench.gpu_cases import Case

_RMS_LEAST, _RMS_MOST = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """relative: |out - truth| / |truth| in the 2-norm; largest: of single elements."""

    relative: float
    largest: float
    good: bool


def judge_case(case: Case) -> Verdict:
    """Runs the kernel of `case` on poisoned memory and compares."""
    with poisoned_memory():
        out = case.kernel()
    return judge(out, case.plain(), case.truth(), case.tolerance)


def judge(out: Tensor, plain: Tensor, truth: Tensor, tolerance: float) -> Verdict:
    """Compares `out` and the same-dtype torch path `plain` with the float64 `truth`."""
    if out.shape != truth.shape:
        raise ValueError(f"shape {tuple(out.shape)}, expected {tuple(truth.shape)}")
    error = (out.double() - truth).abs()
    relative = float(error.norm() / truth.norm())
    largest = float(error.max())
    plain_largest = float((plain.double() - truth).abs().max())
    allowed = max(2 * plain_largest, tolerance * float(truth.abs().max()))
    sized = _RMS_LEAST <= float(truth.square().mean().sqrt()) <= _RMS_MOST
    return Verdict(relative, largest, sized and relative <= tolerance and largest <= allowed)


@contextmanager
def poisoned_memory() -> Generator[None]:
    """Fresh tensors are NaN (integers: the largest value) inside."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
