"""Where and with what the GPU bench runs: the device's parts behind one seam.

Tests pass the CPU, a host's clock and a `scale` of sizes; everything else is the same code.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from predawn.bench.gpu_timer import CudaTimer, Timer

Call = Callable[[], Tensor]

_TOTAL_S, _COMPILE_S = 310.0, 90.0


@dataclass(slots=True)
class Compiler:
    """torch.compile until `budget_s` seconds have gone into it, then None: what was not compiled
    is left out, and said so. Each function is compiled at its first call, which is done here."""

    compile: Callable[[Call], Call]
    budget_s: float
    clock: Callable[[], float] = time.perf_counter
    spent_s: float = 0.0

    def __call__(self, call: Call) -> Call | None:
        if self.spent_s >= self.budget_s:
            return None
        begin = self.clock()
        compiled = self.compile(call)
        compiled()
        self.spent_s += self.clock() - begin
        return compiled


@dataclass(frozen=True, slots=True)
class Rig:
    """scale: sizes of ceilings are divided by it. late: whether no more work is to be begun."""

    device: str
    timer: Timer
    compiled: Callable[[Call], Call | None]
    scale: int = 1
    late: Callable[[], bool] = field(default=lambda: False)


def cuda_rig() -> Rig:
    """The current CUDA device; late after 5 minutes, so that gpu.sh ends within 8."""
    end = time.perf_counter() + _TOTAL_S
    compiler = Compiler(_compiled_alone, _COMPILE_S)
    return Rig("cuda", CudaTimer(), compiler, late=lambda: time.perf_counter() > end)


def _compiled_alone(call: Call) -> Call:
    torch.compiler.reset()  # else the ninth shape of one function would run uncompiled
    return torch.compile(call)
