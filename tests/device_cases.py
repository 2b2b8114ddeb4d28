"""An `Accelerator` on the CPU: streams are names in a log, events are done when told."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor


class HostEvent:
    """Done at once, or after `lag` queries."""

    def __init__(self, log: list[str], lag: int) -> None:
        self._log = log
        self._lag = lag
        self._left = 0

    def record(self) -> None:
        self._log.append("record")
        self._left = self._lag

    def query(self) -> bool:
        self._left -= self._left > 0
        return self._left == 0

    def synchronize(self) -> None:
        self._log.append("wait")
        self._left = 0


class Host:
    """log: what was done, in order; captures: how many graphs there are."""

    def __init__(self, lag: int = 0) -> None:
        self.device = torch.device("cpu")
        self.log: list[str] = []
        self.captures = 0
        self._lag = lag

    def pinned(self, size_bytes: int) -> Tensor:
        return torch.full((size_bytes,), 255, dtype=torch.uint8)

    def event(self) -> HostEvent:
        return HostEvent(self.log, self._lag)

    def online(self) -> AbstractContextManager[None]:
        return self._inside("online")

    def background(self) -> AbstractContextManager[None]:
        return self._inside("background")

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """A graph writes to the memory of its capture, and runs nothing new on the host."""
        self.captures += 1
        result = run()

        def launch() -> None:
            self.log.append("launch")
            result.copy_(run())

        return launch, result

    @contextmanager
    def _inside(self, stream: str) -> Generator[None]:
        self.log.append(stream)
        yield
        self.log.append("end")
