"""A pair model's work behind everything else on a device.

Invariant: at most one slice is in flight, in a stream of low priority, and the engine's thread is
never held by it for longer than a pause: while a slice runs, the engine is asked again and again
whether something more urgent has come.
"""

import threading
from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

from predawn.server.models.contract import PairModel, SlicedPairModel
from predawn.server.models.device import Accelerator
from predawn.server.request import F32, PairBatch

_T = TypeVar("_T")
_PAUSE_S = 50e-6


class _Keeping(PairModel, SlicedPairModel, Protocol):
    def kept(self) -> dict[str, int]: ...


def paced(
    slices: Generator[None, None, _T], accelerator: Accelerator, pause: Callable[[], object]
) -> Generator[None, None, _T]:
    """The same slices in the background stream, each begun when the one before it is done; yields
    at least once a slice, after a pause where it is not done yet."""
    done = accelerator.event()
    while True:
        try:
            with accelerator.background():
                next(slices)
                done.record()
        except StopIteration as ended:
            result: _T = ended.value
            return result
        yield
        while not done.query():
            pause()
            yield


class BackgroundPairs:
    """A sliced pair model on a device; closing a generator closes the model's."""

    def __init__(self, model: _Keeping, accelerator: Accelerator) -> None:
        self._model = model
        self._accelerator = accelerator
        self._never = threading.Event()

    @property
    def dim(self) -> int:
        """Values per pair."""
        return self._model.dim

    def kept(self) -> dict[str, int]:
        """What the model says of the histories that it keeps."""
        return self._model.kept()

    def embed_pairs(self, batch: PairBatch) -> F32:
        """See `PairModel`; in the background stream."""
        with self._accelerator.background():
            return self._model.embed_pairs(batch)

    def pair_slices(self, batch: PairBatch) -> Generator[None, None, F32]:
        """See `SlicedPairModel`."""
        slices = self._model.pair_slices(batch)
        try:
            return (yield from paced(slices, self._accelerator, self._pause))
        finally:
            slices.close()

    def _pause(self) -> None:
        self._never.wait(_PAUSE_S)
