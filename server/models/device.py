"""What of CUDA the models use, behind one seam: pinned memory, events, streams and graphs.

Invariant: nothing here waits for the whole device. What is awaited is an event of one stream, and
capturing disturbs no other thread: it empties no cache and stops no stream.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor


class Event(Protocol):
    """A point in a stream."""

    def record(self) -> None:
        """Marks everything put into the current stream so far."""
        ...

    def query(self) -> bool:
        """Whether all that was marked is done."""
        ...

    def synchronize(self) -> None:
        """Waits until it is, without the interpreter's lock."""
        ...


class Accelerator(Protocol):
    """What a device offers. `Cuda` is the real one; tests bring one that runs on the CPU."""

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        ...

    def pinned(self, size_bytes: int) -> Tensor:
        """uint8 [size_bytes] on the host that the device copies from and to by itself."""
        ...

    def event(self) -> Event:
        """A new one, which counts as done until it is recorded."""
        ...

    def online(self) -> AbstractContextManager[Any]:
        """What is launched inside goes into a stream of high priority."""
        ...

    def background(self) -> AbstractContextManager[Any]:
        """What is launched inside goes into a stream of low priority."""
        ...

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Records what `run` launches, after a first run to warm up; returns how to launch it
        again, into the current stream, and where its result will be."""
        ...


class Cuda:
    """One CUDA device. Graphs share a pool of memory: they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda: Any = torch.cuda  # whose classes carry no types
        # Lower numbers go first, and 0 is the least that torch has, the default stream's too.
        self._online = self._cuda.Stream(device, priority=-1)
        self._background = self._cuda.Stream(device, priority=0)
        self._side = self._cuda.Stream(device)
        self._pool: Any = None

    @property
    def device(self) -> torch.device:
        """Where tensors live."""
        return self._device

    def pinned(self, size_bytes: int) -> Tensor:
        """See `Accelerator`."""
        return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)

    def event(self) -> Event:
        """See `Accelerator`."""
        event: Event = self._cuda.Event(blocking=True)
        return event

    def online(self) -> AbstractContextManager[Any]:
        """See `Accelerator`."""
        stream: AbstractContextManager[Any] = torch.cuda.stream(self._online)
        return stream

    def background(self) -> AbstractContextManager[Any]:
        """See `Accelerator`."""
        stream: AbstractContextManager[Any] = torch.cuda.stream(self._background)
        return stream

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See `Accelerator`. `torch.cuda.graph` is not used: it synchronizes the device and empties
        the allocator's cache, which would be felt by the batches that are being served."""
        graph = torch.cuda.CUDAGraph()
        self._side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._side):
            run()
            self._side.synchronize()
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                result = run()
            finally:
                graph.capture_end()
        self._pool = graph.pool()
        return graph.replay, result
