"""Pooled embedding bags of T tables at once, jagged, written straight into a token buffer.

    out[b, t] = sum of weights[i] * scale[row_i] * rows[row_i] over the ids i of bag (b, t)
    row_i     = first_row[t] + ids[i]                  (or the mean of the rows, without weights)

The tables lie one after the other in one slab: rows [N, D]; first_row int64 [T + 1] says where
each begins, so table t has first_row[t + 1] - first_row[t] rows. ids int64 [n] are rows within
their own table; offsets int64 [B * T + 1] ascend from 0 to n and bag (b, t) is
ids[offsets[b T + t] : offsets[b T + t + 1]]. rows are float32 or float16, or int8 with a scale [N]
of either; weights float32 [n] or None. out [B, T, D] has the dtype of the rows, or of their scale;
sums are float32. An empty bag is zero. An id outside its table adds nothing, does not count for
the mean, and is counted in `bad`: a bad id can never read another table's row.

Bytes that must move: n (D size + 8, + 4 each for scale and weight) + B T (D out size + 8); 1 to 2
FLOP per element read: bound by memory, and by how many rows are in flight. For few bags, by the
launch.

On a CUDA device without gradients one Triton kernel does all tables; elsewhere the torch
reference runs, which autograd can follow.
"""

import torch
from torch import Tensor

from predawn.kernels import launch


def bag_pool(
    rows: Tensor,
    first_row: Tensor,
    ids: Tensor,
    offsets: Tensor,
    mean: bool = False,
    *,
    scale: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(out [B, T, D], bad int64 []): pooled bags and how many ids were outside their table.

    ValueError names a bad shape or dtype. Values of offsets are trusted to ascend from 0 to n.
    """
    _check(rows, first_row, ids, offsets)
    _check_factors(rows, ids, mean, scale, weights)
    factors = [tensor for tensor in (scale, weights) if tensor is not None]
    if launch.use_triton(rows, first_row, ids, offsets, *factors):
        from predawn.kernels.bag_pool_triton import bag_pool_triton

        pooled: tuple[Tensor, Tensor] = bag_pool_triton(
            rows, first_row, ids, offsets, mean, scale, weights
        )
        return pooled
    return bag_pool_reference(rows, first_row, ids, offsets, mean, scale, weights)


def bag_pool_reference(
    rows: Tensor,
    first_row: Tensor,
    ids: Tensor,
    offsets: Tensor,
    mean: bool = False,
    scale: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The formula in torch; sums in float32 (float64 rows or scale: in float64)."""
    tables = first_row.numel() - 1
    bags = offsets.numel() - 1
    bag = torch.repeat_interleave(torch.arange(bags, device=ids.device), offsets.diff())
    table = bag % tables
    good = (ids >= 0) & (ids < first_row.diff()[table])
    bag, row = bag[good], (ids + first_row[table])[good]

    stored = rows.dtype if scale is None else scale.dtype
    wide = torch.float64 if stored == torch.float64 else torch.float32
    values = rows[row].to(wide)
    if scale is not None:
        values = values * scale[row].to(wide)[:, None]
    if weights is not None:
        values = values * weights[good].to(wide)[:, None]
    out = torch.zeros(bags, rows.shape[1], dtype=wide, device=rows.device)
    out = out.index_add(0, bag, values)
    if mean:
        out = out / torch.bincount(bag, minlength=bags).clamp(min=1).to(wide)[:, None]
    return out.to(stored).view(-1, tables, rows.shape[1]), (~good).sum()


def _check(rows: Tensor, first_row: Tensor, ids: Tensor, offsets: Tensor) -> None:
    flat = first_row.ndim == ids.ndim == offsets.ndim == 1
    if rows.ndim != 2 or not flat or first_row.numel() < 2 or offsets.numel() < 1:
        raise ValueError(
            "bag_pool needs rows [N, D], first_row [T + 1], ids [n], offsets [B * T + 1], got "
            f"{[tuple(t.shape) for t in (rows, first_row, ids, offsets)]}"
        )
    tables, bags = first_row.numel() - 1, offsets.numel() - 1
    if bags % tables:
        raise ValueError(f"bag_pool: {bags} bags do not divide into {tables} tables a row")
    if any(t.dtype != torch.int64 for t in (first_row, ids, offsets)):
        raise ValueError(
            "bag_pool needs int64 first_row, ids and offsets, got "
            f"{[str(t.dtype) for t in (first_row, ids, offsets)]}"
        )


def _check_factors(
    rows: Tensor, ids: Tensor, mean: bool, scale: Tensor | None, weights: Tensor | None
) -> None:
    if (scale is not None) != (rows.dtype == torch.int8):
        raise ValueError(
            f"bag_pool: {rows.dtype} rows {'with' if scale is not None else 'without'}"
            " a scale: int8 rows have one, others have none"
        )
    if scale is not None and (scale.shape != rows.shape[:1] or not scale.is_floating_point()):
        found = f"{scale.dtype} {tuple(scale.shape)}"
        raise ValueError(f"bag_pool: scale is {found}, needs floats [{rows.shape[0]}]")
    if weights is not None and mean:
        raise ValueError("bag_pool: weights belong to a sum, not to a mean")
    if weights is not None and (weights.shape != ids.shape or weights.dtype != torch.float32):
        found = f"{weights.dtype} {tuple(weights.shape)}"
        raise ValueError(f"bag_pool: weights is {found}, needs float32 [{ids.numel()}]")
