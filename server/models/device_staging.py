"""A ring of pinned slabs between the host's arrays and the device.

Invariant: a slab is written to again only when the copy that was last started from or into it is
done, which its event says; with a few slabs that is so long before its turn comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from predawn.server.models.device import Accelerator, Event

_ALIGNMENT = 256  # of each column, in bytes: what copies and vector loads want
_SLABS = 4


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a batch: shape: of a row."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class Layout:
    """Where the columns of `rows` rows lie in one piece of memory, so that one copy moves all."""

    def __init__(self, columns: Sequence[Column], rows: int) -> None:
        self._places: list[tuple[Column, int, int]] = []
        self.size_bytes = 0
        for column in columns:
            count = rows * torch.Size(column.shape).numel()
            size = count * column.dtype.itemsize
            self._places.append((column, self.size_bytes, size))
            self.size_bytes += -(-size // _ALIGNMENT) * _ALIGNMENT
        self.rows = rows

    def views(self, memory: Tensor) -> dict[str, Tensor]:
        """The columns [rows, ...] inside uint8 memory of at least `size_bytes`."""
        return {
            column.name: memory[at : at + size].view(column.dtype).view(self.rows, *column.shape)
            for column, at, size in self._places
        }


@dataclass(slots=True)
class Slab:
    """memory: uint8, pinned; done: recorded after the last copy from or into it."""

    memory: Tensor
    done: Event


class StagingRing:
    """Slabs of `size_bytes`, in turn."""

    def __init__(self, accelerator: Accelerator, size_bytes: int, slabs: int = _SLABS) -> None:
        self._slabs = [
            Slab(accelerator.pinned(size_bytes), accelerator.event()) for _ in range(slabs)
        ]
        self._turn = 0

    def next(self) -> Slab:
        """The slab whose turn it is, free to be written to."""
        slab = self._slabs[self._turn]
        self._turn = (self._turn + 1) % len(self._slabs)
        if not slab.done.query():
            slab.done.synchronize()
        return slab


def fill(views: Mapping[str, Tensor], arrays: Mapping[str, Tensor]) -> None:
    """Writes a batch into the first rows of `views`, converting where dtypes differ, and zeros into
    the rest: what was there before belonged to another layout and would be no valid id."""
    for name, array in arrays.items():
        views[name][: len(array)].copy_(array)
        views[name][len(array) :].zero_()
