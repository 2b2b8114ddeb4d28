"""The small cases say which kernel is wrong."""

from dataclasses import replace

import interpreted
import pytest
import torch

from predawn.bench import gpu_small
from predawn.bench.gpu_cases import CrossShape, cross_case


def test_one_wrong_kernel_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    case = cross_case(CrossShape(3, 16, 4, 1), interpreted.DEVICE)
    wrong = replace(case, name="zeros", kernel=lambda: torch.zeros_like(case.plain()))
    assert gpu_small.judged([case]) == 0
    assert gpu_small.judged([wrong, case]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("zeros: WRONG") and ": right" in lines[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a CUDA device to be absent")
def test_without_a_device_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_small.main() == 2
    assert capsys.readouterr().err == "predawn: gpu_small needs an NVIDIA GPU\n"
