"""Times work on a CUDA device as a server would run it: a replayed graph, nothing left in L2.

Invariant: what is timed is between two events on one stream; the flush before it is not.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from typing import Protocol

import torch

_FLUSH_BYTES = 256 * 2**20  # several times the L2 of an H100 or H200
_COPY_BYTES = 2**31
_MATMUL = 8192
_ROUND = 20  # calls between two looks at the host's clock


@dataclass(frozen=True, slots=True)
class Sample:
    """Microseconds of one call: the median and the 99th percentile of `n`."""

    median_us: float
    p99_us: float
    n: int


class Timer(Protocol):
    """Times a call; `CudaTimer`, and a host's clock in the tests."""

    def time(self, call: Callable[[], object]) -> Sample:
        """On the device, between two events."""
        ...

    def host(self, call: Callable[[], object]) -> Sample:
        """On the host, until the call returns; what it launched may not have ended."""
        ...

    def captured(self, call: Callable[[], object]) -> Callable[[], object]:
        """The call as one graph; calling it replays the graph."""
        ...


class CudaTimer:
    """Captures a call as a graph and replays it `repeats` times, L2 flushed before each."""

    def __init__(self, repeats: int = 200) -> None:
        self._repeats = repeats
        self._flush = torch.empty(_FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")

    def time(self, call: Callable[[], object]) -> Sample:
        """Warm-up, capture, replay."""
        replay = self.captured(call)
        spans = [self._events() for _ in range(self._repeats)]
        for begin, end in spans:
            self._flush.zero_()
            begin.record()
            replay()
            end.record()
        torch.cuda.synchronize()
        return sample([begin.elapsed_time(end) * 1e3 for begin, end in spans])

    def host(self, call: Callable[[], object]) -> Sample:
        """Rounds of few enough calls that no launch waits for a full queue."""
        call()
        spans: list[float] = []
        for _ in range(self._repeats):
            torch.cuda.synchronize()
            begin = time.perf_counter_ns()
            for _ in range(_ROUND):
                call()
            spans.append((time.perf_counter_ns() - begin) / _ROUND / 1e3)
        torch.cuda.synchronize()
        return sample(spans)

    def captured(self, call: Callable[[], object]) -> Callable[[], object]:
        """Warm-up and capture on a side stream."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(5):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay

    def _events(self) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        event = partial(torch.cuda.Event, enable_timing=True)
        return event(), event()


def sample(times_us: list[float]) -> Sample:
    """Median and 99th percentile of at least two times."""
    return Sample(median(times_us), quantiles(times_us, n=100)[98], len(times_us))


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What this device does at best: bytes a second of a copy (read + written), FLOP a second."""

    bytes_s: float
    flop_s: float

    def floor_us(self, moved_bytes: int, flop: int) -> float:
        """The time below which no kernel can be: the slower of moving and computing."""
        return max(moved_bytes / self.bytes_s, flop / self.flop_s) * 1e6


def measure_ceilings(timer: Timer, device: str, scale: int = 1) -> Ceilings:
    """Copies 2 GiB and multiplies 8192 x 8192 bfloat16 (both / `scale`)."""
    source = torch.ones(_COPY_BYTES // scale, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    side = _MATMUL // scale
    dice = torch.Generator(device=device).manual_seed(0)
    a = torch.randn(side, side, generator=dice, device=device).bfloat16()
    copied = timer.time(lambda: target.copy_(source)).median_us
    multiplied = timer.time(lambda: a @ a).median_us
    return Ceilings(2 * source.numel() / copied * 1e6, 2 * side**3 / multiplied * 1e6)
