"""New embeddings are averaged with what was there, quantised and written to their slots.

    average  served = mean of new and the kept raw vectors that are there   (kept [S, K, d])
             or before + weight * (new - before), before: what the slot serves now; new if nothing
    clip     served *= norm_max / |served| where |served| > norm_max
    int8     scale = max |served| / 127, steps = round(served / scale), ties to even
    or fp16  rounded, cut to the largest finite half
    keep     the kept vectors move back by one, new in front, the oldest falls out

new [B, d] float32, float16 or bfloat16; slots and sequence int64 [B]. `Slots` is the table: served
int8 [S, d] with scale float32 [S], or float16 [S, d]; kept [S, K, d] float32, float16 or bfloat16,
newest first (SUM, arXiv 2311.09544, keeps two), or None; latest int64 [S]. NaN is "nothing", as in
server/stabilise.py: in a float16 row, and as the scale of an int8 row. A new row that holds a NaN
or an infinity leaves its slot with nothing, and counts for nothing among the kept ones.

Order: a row is written if its sequence number is the largest that its slot has seen, in this batch
and before it. So of two rows for one slot the later wins, whichever program runs first, and a
batch that comes late does not undo a newer one. Sequence numbers are not negative and differ within
a slot. A slot outside the table drops its row.

drift float32 [B], if asked for: the cosine of what is served from now on, before rounding, and what
was served; NaN where either is nothing or all zero, or the row was not written.

Bytes that must move: B (d new size + d served size + 40), and per row K d size kept twice, or d
served size once more for the exponential mean and the drift. A few FLOP a byte: bound by memory;
for few rows, by the launch.

On a CUDA device two Triton kernels do it in place, elsewhere the torch reference, in place too.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from predawn.kernels import launch

WIDTH_MAX = 4096  # one program holds a row in its registers
FP16_LIMIT = 65_504.0
INT8_SCALE_LIMIT = float.fromhex("0x1.020406p121")  # 127 times it is finite
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Slots:
    """The table of S rows that is written in place; see the head of this file."""

    served: Tensor
    scale: Tensor | None
    kept: Tensor | None
    latest: Tensor

    def present(self) -> list[Tensor]:
        """The tensors that it has."""
        named = (self.served, self.scale, self.kept, self.latest)
        return [tensor for tensor in named if tensor is not None]


def empty_slots(
    count: int,
    dim: int,
    *,
    dtype: torch.dtype = torch.int8,
    kept: int = 0,
    kept_dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
) -> Slots:
    """`count` slots with nothing in them; dtype: int8 or float16."""
    scaled = dtype == torch.int8
    fill = 0 if scaled else torch.nan
    size = (count, kept, dim)
    return Slots(
        served=torch.full((count, dim), fill, dtype=dtype, device=device),
        scale=torch.full((count,), torch.nan, device=device) if scaled else None,
        kept=torch.full(size, torch.nan, dtype=kept_dtype, device=device) if kept else None,
        latest=torch.full((count,), -1, dtype=torch.int64, device=device),
    )


def stabilise_quant_scatter(
    new: Tensor,
    slots: Tensor,
    sequence: Tensor,
    table: Slots,
    *,
    weight: float | None = None,
    norm_max: float | None = None,
    drift: bool = False,
) -> Tensor | None:
    """Writes `table` in place; the drift [B] or None. ValueError names what does not fit.

    weight: of the new row in an exponential mean, above 0, at most 1; None: the mean of what is
    kept (of nothing kept: the new row itself).
    """
    _check_batch(new, slots, sequence, table)
    _check_table(table)
    _check_options(table, weight, norm_max)
    narrow = new.shape[1] <= WIDTH_MAX
    if narrow and launch.use_triton(new, slots, sequence, *table.present()):
        from predawn.kernels.stabilise_quant_scatter_triton import stabilise_quant_scatter_triton

        held = (table.served, table.scale, table.kept, table.latest)
        cosines: Tensor = stabilise_quant_scatter_triton(
            new, slots, sequence, *held, weight, norm_max, drift
        )
    else:
        cosines = stabilise_quant_scatter_reference(
            new, slots, sequence, table, weight, norm_max, drift
        )
    return cosines if drift else None


@torch.no_grad()
def stabilise_quant_scatter_reference(
    new: Tensor,
    slots: Tensor,
    sequence: Tensor,
    table: Slots,
    weight: float | None,
    norm_max: float | None,
    drift: bool,
) -> Tensor:
    """The formula in torch, in float32 (float64 rows: in float64). Drift [B], or empty."""
    wide = torch.float64 if new.dtype == torch.float64 else torch.float32
    rows = _winners(slots, sequence, table.latest)
    slot, raw = slots[rows], new[rows].to(wide)
    before = served_rows(table, slot, wide)
    served = raw
    if weight is not None:
        there = before.isfinite().all(1, keepdim=True)
        served = torch.where(there, before + weight * (raw - before), raw)
    elif table.kept is not None:
        served = _mean(raw, table.kept[slot].to(wide))
        table.kept[slot] = torch.cat([new[rows, None], table.kept[slot, :-1]], 1).to(
            table.kept.dtype
        )
    if norm_max is not None:
        served = served * (norm_max / served.norm(dim=1, keepdim=True).clamp(min=norm_max))
    _write(table, slot, served)
    if not drift:
        return new.new_empty(0, dtype=torch.float32)
    cosines = torch.full(new.shape[:1], torch.nan, device=new.device)
    norms = served.norm(dim=1) * before.norm(dim=1)
    cosines[rows] = ((served * before).sum(1) / norms).float()
    return cosines


def served_rows(table: Slots, slot: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """What these slots serve [n, d]; NaN: nothing."""
    rows = table.served[slot].to(dtype)
    return rows if table.scale is None else rows * table.scale[slot].to(dtype)[:, None]


def _winners(slots: Tensor, sequence: Tensor, latest: Tensor) -> Tensor:
    """Positions in the batch of the rows that are written; `latest` is brought up to date."""
    good = (slots >= 0) & (slots < latest.shape[0])
    slot = torch.where(good, slots, 0)[good]
    latest.scatter_reduce_(0, slot, sequence[good], "amax")
    return good.nonzero()[:, 0][latest[slot] == sequence[good]]


def _mean(raw: Tensor, kept: Tensor) -> Tensor:
    there = kept.isfinite().all(2, keepdim=True)
    total = raw
    for part in torch.where(there, kept, 0).unbind(1):
        total = total + part
    return total / (1 + there.sum(1)).to(raw.dtype)


def _write(table: Slots, slot: Tensor, served: Tensor) -> None:
    largest = served.abs().amax(1, keepdim=True)
    good = largest.isfinite()
    if table.scale is None:
        half = served.clamp(-FP16_LIMIT, FP16_LIMIT).half()
        table.served[slot] = torch.where(good, half, torch.nan)
        return
    scale = (largest / 127).clamp(max=INT8_SCALE_LIMIT)
    steps = (served * (1 / scale)).round()
    written = good & (scale >= torch.finfo(torch.float32).tiny)
    table.served[slot] = torch.where(written, steps, 0).to(torch.int8)
    kept_scale = torch.where(written, scale, torch.where(good, 0, torch.nan))
    table.scale[slot] = kept_scale[:, 0].float()


def _check_batch(new: Tensor, slots: Tensor, sequence: Tensor, table: Slots) -> None:
    if new.ndim != 2 or new.shape[1:] != table.served.shape[1:] or not new.shape[1]:
        shapes = f"{tuple(new.shape)} and {tuple(table.served.shape)}"
        raise ValueError(
            f"stabilise_quant_scatter needs new [B, d] and served [S, d], got {shapes}"
        )
    if new.dtype not in (*_FLOATS, torch.float64):
        raise ValueError(f"stabilise_quant_scatter: new is {new.dtype}, needs a float dtype")
    for name, ids in (("slots", slots), ("sequence", sequence)):
        if ids.shape != new.shape[:1] or ids.dtype != torch.int64:
            found = f"{ids.dtype} {tuple(ids.shape)}"
            raise ValueError(
                f"stabilise_quant_scatter: {name} is {found}, needs int64 [{new.shape[0]}]"
            )


def _check_table(table: Slots) -> None:
    count, dim = table.served.shape
    served = torch.float16 if table.scale is None else torch.int8
    scale, kept = table.scale, table.kept
    if table.served.dtype != served:
        with_scale = "without" if table.scale is None else "with"
        raise ValueError(
            f"stabilise_quant_scatter: served is {table.served.dtype}, needs {served} "
            f"{with_scale} a scale"
        )
    if scale is not None and (scale.shape != (count,) or scale.dtype != torch.float32):
        found = f"{scale.dtype} {tuple(scale.shape)}"
        raise ValueError(f"stabilise_quant_scatter: scale is {found}, needs float32 [{count}]")
    if table.latest.shape != (count,) or table.latest.dtype != torch.int64:
        found = f"{table.latest.dtype} {tuple(table.latest.shape)}"
        raise ValueError(f"stabilise_quant_scatter: latest is {found}, needs int64 [{count}]")
    if kept is not None and (kept.ndim != 3 or kept[:, 0].shape != (count, dim)):
        needs = f"[{count}, K, {dim}] with K of at least 1"
        raise ValueError(f"stabilise_quant_scatter: kept is {tuple(kept.shape)}, needs {needs}")
    if kept is not None and kept.dtype not in _FLOATS:
        raise ValueError(f"stabilise_quant_scatter: kept is {kept.dtype}, needs a float dtype")
    if not all(tensor.is_contiguous() for tensor in table.present()):
        raise ValueError("stabilise_quant_scatter writes in place: the table must be contiguous")


def _check_options(table: Slots, weight: float | None, norm_max: float | None) -> None:
    if weight is not None and not 0 < weight <= 1:
        raise ValueError(f"stabilise_quant_scatter: weight {weight}, needs 0 < weight <= 1")
    if weight is not None and table.kept is not None:
        raise ValueError("stabilise_quant_scatter: an exponential mean keeps no raw vectors")
    if norm_max is not None and not norm_max > 0:
        raise ValueError(f"stabilise_quant_scatter: norm_max {norm_max}, needs more than 0")
