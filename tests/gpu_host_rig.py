"""The GPU bench on the host: the way of the figures, not figures."""

import time
from collections.abc import Callable

from interpreted import DEVICE

from predawn.bench.gpu_rig import Rig
from predawn.bench.gpu_timer import Sample, sample


class HostTimer:
    """Three calls by the host's clock; a graph is the call itself."""

    def time(self, call: Callable[[], object]) -> Sample:
        spans = []
        for _ in range(3):
            start = time.perf_counter_ns()
            call()
            spans.append((time.perf_counter_ns() - start) / 1e3)
        return sample(spans)

    def host(self, call: Callable[[], object]) -> Sample:
        return self.time(call)

    def captured(self, call: Callable[[], object]) -> Callable[[], object]:
        return call


def host_rig() -> Rig:
    """Small ceilings, nothing compiled: a compiled call is the call."""
    return Rig(DEVICE, HostTimer(), lambda call: call, scale=64)
