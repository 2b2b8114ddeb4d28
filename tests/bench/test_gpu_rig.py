"""The GPU bench's seam: compiling ends when its time is spent."""

from collections.abc import Callable

import torch
from gpu_host_rig import host_rig
from torch import Tensor

from predawn.bench.gpu_rig import Compiler


def test_compiling_ends_when_its_time_is_spent() -> None:
    now = [0.0]
    built: list[str] = []

    def compile_(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def compiled() -> Tensor:
            if not built or built[-1] != "first call":
                now[0] += 4.0
            built.append("first call")
            return call()

        built.append("compiled")
        return compiled

    compiler = Compiler(compile_, budget_s=7.0, clock=lambda: now[0])
    one = torch.ones(1)
    results = [compiler(lambda: one) for _ in range(3)]
    assert [result is None for result in results] == [False, False, True]
    assert compiler.spent_s == 8.0
    assert built == ["compiled", "first call"] * 2
    assert results[0] is not None and results[0]() is one


def test_a_rig_is_never_late_unless_told() -> None:
    assert not host_rig().late()
