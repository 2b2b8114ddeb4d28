"""The cases of `stabilise_quant_scatter`, which averages, quantises and writes rows in place.

As in gpu_cases.py: a case knows `kernel`, `plain` (torch, same dtype) and `truth` (float64), and
what any implementation must move and compute. Each way writes a table of its own, again each time
that it is called.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from predawn.bench.gpu_cases import TOLERANCE, Case
from predawn.bench.gpu_cases_lookup import SHORT, draws
from predawn.kernels.stabilise_quant_scatter import (
    Slots,
    empty_slots,
    served_rows,
    stabilise_quant_scatter_reference,
)
from predawn.kernels.stabilise_quant_scatter_triton import stabilise_quant_scatter_triton


@dataclass(frozen=True, slots=True)
class ScatterShape:
    """B rows of d to slots of their own, all served before.

    weight: exponential mean; else the mean with `kept` raw vectors (0: none).
    """

    rows: int
    width: int
    kept: int = 0
    weight: float | None = None
    norm_max: float | None = None
    drift: bool = False
    served: torch.dtype = torch.int8
    new_dtype: torch.dtype = torch.bfloat16


SCATTERS = (
    ScatterShape(64, 384, kept=2, drift=True),
    ScatterShape(4096, 128, kept=2, served=torch.float16),
    ScatterShape(4096, 1024),
    ScatterShape(4096, 1024, kept=2, drift=True),
    ScatterShape(4096, 1024, weight=0.3, norm_max=30.0, drift=True, new_dtype=torch.float32),
)


def scatter_inputs(shape: ScatterShape, device: str, seed: int = 0) -> tuple[Tensor, Tensor, Slots]:
    """(new, slots, table): four slots for each row, rows in no order, new ones near the served.

    Values are such that an int8 row's scale is about 1, or a float16 row of unit size.
    """
    normal, count = draws(device, seed), 4 * shape.rows
    dice = torch.Generator(device=device).manual_seed(seed + 1)
    unit = 30.0 if shape.served == torch.int8 else 1.0
    old, new = (normal(n, shape.width, scale=unit) for n in (count, shape.rows))
    slots = torch.randperm(count, generator=dice, device=device)[: shape.rows]
    table = empty_slots(count, shape.width, dtype=shape.served, kept=shape.kept, device=device)
    every = torch.arange(count, device=device)
    stabilise_quant_scatter_reference(old, every, every * 0, table, shape.weight, None, False)
    return (new + old[slots]).to(shape.new_dtype), slots, table


def scatter_case(shape: ScatterShape, device: str, seed: int = 0) -> Case:
    """Its result is the drift if it has one, else what is served: float16 rows, or int8's scales.

    The peer has it easier: no sequence numbers, all slots differ and are good.
    """
    new, slots, filled = scatter_inputs(shape, device, seed)
    sequence = torch.arange(1, shape.rows + 1, device=device)
    modes = (shape.weight, shape.norm_max, shape.drift)
    by_kernel, by_plain, by_eager, by_truth = (_copy(filled) for _ in range(4))

    def kernel() -> Tensor:
        held = (by_kernel.served, by_kernel.scale, by_kernel.kept, by_kernel.latest)
        return _result(
            stabilise_quant_scatter_triton(new, slots, sequence, *held, *modes), by_kernel
        )

    def reference(rows: Tensor, table: Slots) -> Tensor:
        cosines = stabilise_quant_scatter_reference(rows, slots, sequence, table, *modes)
        return _result(cosines, table)

    kept = 2 * shape.kept * shape.width * 2
    row = shape.width * (shape.new_dtype.itemsize + shape.served.itemsize) + kept + 40
    if shape.weight is not None or shape.drift:
        row += shape.width * shape.served.itemsize
    mode = f"weight {shape.weight}" if shape.weight else f"kept {shape.kept}"
    return Case(
        name=f"stabilise {SHORT[shape.new_dtype]} to {SHORT[shape.served]} B{shape.rows}"
        f" d{shape.width} {mode}{' drift' * shape.drift}",
        kernel=kernel,
        plain=lambda: reference(new, by_plain),
        truth=lambda: reference(new.double(), by_truth).double(),
        peers={"eager": lambda: _result(_eager(new, slots, by_eager, shape), by_eager)},
        bytes=shape.rows * row,
        flop=shape.rows * shape.width * (8 + 2 * shape.kept),
        tolerance=TOLERANCE[torch.float16 if shape.served == torch.float16 else torch.float32],
    )


def _copy(table: Slots) -> Slots:
    held = (table.served, table.scale, table.kept, table.latest)
    served, scale, kept, latest = (None if t is None else t.clone() for t in held)
    assert served is not None and latest is not None
    return Slots(served, scale, kept, latest)


def _result(cosines: Tensor, table: Slots) -> Tensor:
    if cosines.numel():
        return cosines
    return table.served if table.scale is None else table.scale


def _eager(new: Tensor, slots: Tensor, table: Slots, shape: ScatterShape) -> Tensor:
    """The same rows by torch's own operations, without anything that waits for the device."""
    served = raw = new.float()
    reads = shape.weight is not None or shape.drift
    before = served_rows(table, slots) if reads else raw
    if shape.weight is not None:
        served = torch.where(before.isnan(), raw, before + shape.weight * (raw - before))
    elif table.kept is not None:
        kept = table.kept[slots]
        there = ~kept.isnan()
        total = raw + torch.where(there, kept, 0).float().sum(1)
        served = total / (1 + there.sum(1)).float()
        table.kept[slots] = torch.cat([raw[:, None].to(kept.dtype), kept[:, :-1]], 1)
    if shape.norm_max is not None:
        norm = served.norm(dim=1, keepdim=True).clamp(min=shape.norm_max)
        served = served * (shape.norm_max / norm)
    if table.scale is None:
        table.served[slots] = served.clamp(-65504, 65504).half()
    else:
        scale = served.abs().amax(1) / 127
        table.served[slots] = (served / scale[:, None]).round().to(torch.int8)
        table.scale[slots] = scale
    if not shape.drift:
        return new.new_empty(0)
    return torch.nn.functional.cosine_similarity(served, before, dim=1)
