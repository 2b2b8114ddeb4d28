"""How long a request waits on a device that is busy with work nobody waits for.

Online: a small graph (gather, first layer, two more) on a stream of high priority. Background:
attention to kept histories on a stream of the lowest, never empty. Priorities do not
interrupt a running program, so what a request waits for is the end of programs: they are made
longer by giving each more keys.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import torch

from predawn.bench.gpu_cases_attention import AttnShape, attn_case
from predawn.bench.gpu_cases_lookup import GatherShape, gather_case
from predawn.bench.gpu_rig import Rig
from predawn.bench.gpu_timer import Sample, sample
from predawn.bench.harness import Row, Stamp
from predawn.kernels.hstu_prefix_attn import tiling_of

CHUNKS = (512, 1024, 2048, 4096)  # keys of a background program
ONLINE = GatherShape(512, 256, 128, 64, 512)
BACKGROUND = AttnShape((4096,) * 8, (512,) * 8, 16, 128, torch.bfloat16)

_AHEAD = 2  # background graphs that wait in the queue
_CALLS = 4  # attentions of a background graph: about a millisecond
_REQUESTS = 1000

Call = Callable[[], object]


class Lanes(Protocol):
    """Two queues of one device; `CudaLanes`, and one after the other in the tests."""

    def fill(self) -> None:
        """Makes sure that background work waits."""
        ...

    def online_us(self) -> float:
        """Runs the online graph: microseconds until the host knows that it is done."""
        ...


class CudaLanes:
    """Both graphs are captured on the streams they are replayed on: their nodes keep the
    stream's priority. No background: the device is otherwise idle."""

    def __init__(self, online: Call, background: Call | None) -> None:
        self._high = torch.cuda.Stream(priority=-1)  # type: ignore[no-untyped-call]
        self._low = torch.cuda.Stream(priority=0)  # type: ignore[no-untyped-call]
        self._online = _graph(online, self._high)
        self._background = _graph(background, self._low) if background else None
        self._ahead: deque[torch.cuda.Event] = deque()
        self._done = _event()

    def fill(self) -> None:
        """Replays until `_AHEAD` graphs have not ended."""
        while self._ahead and self._ahead[0].query():  # type: ignore[no-untyped-call]
            self._ahead.popleft()
        while self._background and len(self._ahead) < _AHEAD:
            with torch.cuda.stream(self._low):
                self._background.replay()
            self._ahead.append(_event())
            self._ahead[-1].record(self._low)

    def online_us(self) -> float:
        """From before the launch until the event has been waited for."""
        begin = time.perf_counter_ns()
        with torch.cuda.stream(self._high):
            self._online.replay()
        self._done.record(self._high)
        self._done.synchronize()
        return (time.perf_counter_ns() - begin) / 1e3


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]


def _graph(call: Call, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        call()
    return graph


def requests(lanes: Lanes, count: int) -> Sample:
    """`count` requests, one after the other; background work waits before each."""
    for _ in range(10):
        lanes.fill()
        lanes.online_us()
    spans: list[float] = []
    for _ in range(count):
        lanes.fill()
        spans.append(lanes.online_us())
    return sample(spans)


def contention_rows(
    rig: Rig,
    mark: Stamp,
    lanes: Callable[[Call, Call | None], Lanes] = CudaLanes,
    *,
    online: GatherShape = ONLINE,
    background: AttnShape = BACKGROUND,
    chunks: Sequence[int] = CHUNKS,
    count: int = _REQUESTS,
) -> Iterator[Row]:
    """Median and 99th percentile, alone and beside background programs of each length."""
    graph = online_graph(online, rig.device)
    yield from _rows("alone", requests(lanes(graph, None), count), mark)
    for chunk in chunks:
        cut = tiling_of(background.dtype, background.dim)
        cut = replace(cut, chunk=chunk)
        busy = background_graph(replace(background, tiling=cut), rig.device)
        name = f"beside programs of {chunk} keys"
        yield from _rows(name, requests(lanes(graph, busy), count), mark)


def online_graph(shape: GatherShape, device: str) -> Call:
    """A ranker's launches: gather and first layer in one, then two layers."""
    first = gather_case(shape, device).kernel
    dice = torch.Generator(device=device).manual_seed(1)
    sizes = ((shape.hidden, shape.hidden // 2), (shape.hidden // 2, 1))
    weights = [
        torch.randn(size, generator=dice, device=device).to(shape.dtype) / size[0] for size in sizes
    ]
    return lambda: torch.sigmoid(torch.relu(first() @ weights[0]) @ weights[1])


def background_graph(shape: AttnShape, device: str) -> Call:
    """Some attentions, one after the other."""
    kernel = attn_case(shape, device).kernel

    def call() -> None:
        for _ in range(_CALLS):
            kernel()

    return call


def _rows(name: str, taken: Sample, mark: Stamp) -> Iterator[Row]:
    yield mark.row(f"online request {name}", "p50", taken.median_us, "us", n=taken.n)
    yield mark.row(f"online request {name}", "p99", taken.p99_us, "us", n=taken.n)
