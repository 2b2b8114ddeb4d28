"""The embedding tables of a user tower as they serve: fp32, fp16 or int8 rows, summed per bag.

One slab holds all tables (row 0: the empty slot), as in training, where it is an `nn.Embedding`
of float32. int8 rows have a float32 scale each, their largest value / 127.
On a CUDA device the bags are summed by `kernels.bag_pool`; on the CPU by csrc/bag_pool.hpp where
float32 sums do (5 times faster than a gather and a sum in torch for fp16 rows, 30 for int8), else
by a gather and a sum (decision 7).
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from predawn.csrc import _layers
from predawn.kernels.bag_pool import bag_pool

TableDtype = Literal["fp32", "fp16", "int8"]
_ROWS_AT_ONCE = 1 << 20


class StoredBags(nn.Module):
    """rows: float32, float16 or int8 [1 + tables * rows, width], row 0 zeros; scale: float32 [1 +
    tables * rows] of int8 rows, else None. Not trained, and not in the network's state."""

    rows: Tensor
    scale: Tensor | None
    first_row: Tensor

    def __init__(self, rows: Tensor, scale: Tensor | None, tables: int) -> None:
        """RuntimeError where the tensors are no such tables."""
        super().__init__()
        per_table, over = divmod(len(rows) - 1, tables)
        if rows.ndim != 2 or per_table < 1 or over:
            raise RuntimeError(f"size mismatch: bags are {list(rows.shape)}, for {tables} tables")
        if (rows.dtype == torch.int8) != (scale is not None):
            raise RuntimeError("bags of int8 rows need their scale, others have none")
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        first_row = 1 + torch.arange(tables + 1) * per_table
        self.register_buffer("first_row", first_row, persistent=False)

    def pooled(self, slots: Tensor, dtype: torch.dtype) -> Tensor:
        """Sums in `dtype` [B, T, width] over slots int64 [B, T, bag], 0 where empty."""
        if slots.is_cuda:
            return self.pooled_by_kernel(slots).to(dtype)
        if dtype == torch.float32:
            return pooled_natively(self.rows, slots, scale=self.scale)
        found = nn.functional.embedding(slots, self.rows).to(dtype)
        if self.scale is None:
            return found.sum(dim=2)
        return torch.einsum("btkd,btk->btd", found, self.scale[slots].to(dtype))

    def pooled_by_kernel(self, slots: Tensor) -> Tensor:
        """The same in float32 or float16. Bags of a fixed width, so that nothing waits for a count:
        an empty slot is an id below its table, which adds nothing."""
        users, tables, bag = slots.shape
        ids = (slots - self.first_row[:-1, None]).flatten()
        offsets = torch.arange(users * tables + 1, device=slots.device) * bag
        out, _ = bag_pool(self.rows, self.first_row, ids, offsets, scale=self.scale)
        return out


def pooled_natively(
    rows: Tensor, slots: Tensor, scale: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Sums over the last axis of slots int64 [..., bag]: float32 [..., width], on the CPU, no
    gradient. scale: float32 [len(rows)] of int8 rows; weights: float32, as slots."""
    *bags, bag = slots.shape
    out = torch.empty((*bags, rows.shape[1]))
    offsets = np.arange(slots.numel() // bag + 1, dtype=np.int64) * bag
    _layers.bag_pool(
        rows.detach().numpy(),
        slots.contiguous().view(-1).numpy(),
        offsets,
        out.view(-1, rows.shape[1]).numpy(),
        None if scale is None else scale.numpy(),
        None if weights is None else weights.contiguous().view(-1).numpy(),
    )
    return out


def stored_bags(weight: Tensor, tables: int, dtype: TableDtype) -> StoredBags:
    """Trained rows, float32 [1 + tables * rows, width], as they serve; float32 shares memory."""
    rows, scale = table_rows(weight.detach(), dtype)
    return StoredBags(rows, scale, tables)


def table_rows(weight: Tensor, dtype: TableDtype) -> tuple[Tensor, Tensor | None]:
    """Rows in `dtype`, and of int8 their scales: 127 steps to the largest value of each row."""
    if dtype == "fp32":
        return weight, None
    if dtype == "fp16":
        return weight.half(), None
    rows = torch.empty(weight.shape, dtype=torch.int8)
    scale = torch.empty(len(weight))
    for start in range(0, len(weight), _ROWS_AT_ONCE):  # a table of gigabytes is not doubled
        part = slice(start, start + _ROWS_AT_ONCE)
        scale[part] = weight[part].abs().amax(dim=1) / 127
        rows[part] = (weight[part] / scale[part].clamp(min=1e-30)[:, None]).round()
    return rows, scale


def dequantised(rows: Tensor, scale: Tensor | None) -> Tensor:
    """Rows as float32, to train them further."""
    wide = rows.float()
    return wide if scale is None else wide * scale[:, None]
