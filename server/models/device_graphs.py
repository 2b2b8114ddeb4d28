"""A function of rows on a device as CUDA graphs, one per bucket of rows.

Invariant: captured whole and beforehand, with inputs and result in static memory; a call stages,
launches one graph and waits for its own result. The rows of a bucket that a batch does not fill are
zeros, which the function must take; rows do not meet, so they change nothing that is returned.

    host arrays -> pinned slab -> static inputs -> graph -> static result -> pinned slab -> host
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from predawn.server.models.device import Accelerator
from predawn.server.models.device_buckets import bucket_of, buckets_for
from predawn.server.models.device_staging import Column, Layout, StagingRing, fill
from predawn.server.request import F32

Function = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, slots=True)
class _Captured:
    layout: Layout
    inputs: Tensor
    launch: Callable[[], None]
    result: Tensor


class GraphedRows:
    """function: of tensors [rows, ...] on the device, by column, to float32 [rows, dim], without a
    copy from or to the host; columns: its inputs; rows_limit: most rows of a call."""

    def __init__(
        self,
        accelerator: Accelerator,
        function: Function,
        columns: Sequence[Column],
        dim: int,
        rows_limit: int,
    ) -> None:
        """Captures every bucket that up to `rows_limit` rows need."""
        self._accelerator = accelerator
        self._columns = tuple(columns)
        self._shapes = {column.name: column.shape for column in columns}
        self._dim = dim
        self._captured = {
            rows: self._capture(function, rows) for rows in reversed(buckets_for(rows_limit))
        }
        self.rows_limit = max(self._captured)
        largest = self._captured[self.rows_limit]
        self._uploads = StagingRing(accelerator, largest.layout.size_bytes)
        self._downloads = StagingRing(accelerator, self.rows_limit * dim * torch.float32.itemsize)

    def fits(self, arrays: Mapping[str, Tensor]) -> bool:
        """Whether there is a graph for so many rows of such shapes."""
        shapes = {name: tuple(array.shape[1:]) for name, array in arrays.items()}
        rows = len(next(iter(arrays.values())))
        return 0 < rows <= self.rows_limit and shapes == self._shapes

    def run(self, arrays: Mapping[str, Tensor]) -> F32:
        """float32 [n, dim] of `arrays` [n, ...] on the host, n at most `rows_limit`."""
        rows = len(next(iter(arrays.values())))
        captured = self._captured[bucket_of(rows)]
        upload, download = self._uploads.next(), self._downloads.next()
        fill(captured.layout.views(upload.memory), arrays)
        size = captured.layout.size_bytes

        result = download.memory.view(torch.float32)[: rows * self._dim].view(rows, self._dim)

        with self._accelerator.online():
            captured.inputs.copy_(upload.memory[:size], non_blocking=True)
            upload.done.record()
            captured.launch()
            result.copy_(captured.result[:rows], non_blocking=True)
            download.done.record()

        download.done.synchronize()
        out: F32 = result.numpy().copy()
        return out

    def _capture(self, function: Function, rows: int) -> _Captured:
        layout = Layout(self._columns, rows)
        device = self._accelerator.device
        inputs = torch.zeros(layout.size_bytes, dtype=torch.uint8, device=device)
        views = layout.views(inputs)
        launch, result = self._accelerator.capture(lambda: function(views))
        return _Captured(layout, inputs, launch, result)
