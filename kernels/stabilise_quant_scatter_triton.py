"""The Triton half of `stabilise_quant_scatter`: slots are claimed, then each row is written once.

`claim_kernel` raises every slot's `latest` to the largest sequence number of the batch. After it a
row knows whether it won; a slot has one winner, so nothing else reads or writes that slot.
`write_kernel` takes one row a program, in registers from the first read to the last write.
Divisions round to nearest, so that int8 steps are those of the reference.

Settings are fixed per width; tests/kernels checks the registers and spills that they lead to.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from predawn.kernels.stabilise_quant_scatter import FP16_LIMIT, INT8_SCALE_LIMIT

_FP16_LIMIT = tl.constexpr(FP16_LIMIT)
_INT8_SCALE_LIMIT = tl.constexpr(INT8_SCALE_LIMIT)
_LARGEST = tl.constexpr(3.4028234663852886e38)  # of float32
_TINY = tl.constexpr(1.1754943508222875e-38)  # smallest normal float32
_ROUNDS = tl.constexpr(12_582_912.0)  # 1.5 * 2^23: adding it rounds to an integer, ties to even
_CLAIMED = 256  # rows of one program


@triton.jit(do_not_specialize=["rows", "slot_count"])
def claim_kernel(
    slots_ptr: tl.tensor,
    sequence_ptr: tl.tensor,
    latest_ptr: tl.tensor,
    rows: tl.tensor,
    slot_count: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """Program i takes rows i * BLOCK up to (i + 1) * BLOCK - 1."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    slot = tl.load(slots_ptr + row, mask=row < rows, other=-1)
    sequence = tl.load(sequence_ptr + row, mask=row < rows, other=-1)
    tl.atomic_max(latest_ptr + slot, sequence, mask=(slot >= 0) & (slot < slot_count))


@triton.jit
def _finite(row: tl.tensor) -> tl.tensor:
    """Whether no element is NaN or infinite."""
    return tl.max((tl.abs(row) <= _LARGEST).to(tl.int32) ^ 1) == 0


@triton.jit
def _served_before(
    served_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    slot: tl.tensor,
    at: tl.tensor,
    real: tl.tensor,
    wins: tl.tensor,
    INT8: tl.constexpr,
) -> tl.tensor:
    """What the slot serves now, NaN where it serves nothing."""
    before = tl.load(served_ptr + at, mask=real, other=0).to(tl.float32)
    if INT8:
        before = before * tl.load(scale_ptr + slot, mask=wins, other=0.0)
    return before


@triton.jit
def _mean_and_keep(
    new: tl.tensor,
    kept_ptr: tl.tensor,
    slot: tl.tensor,
    column: tl.tensor,
    real: tl.tensor,
    WIDTH: tl.constexpr,
    KEPT: tl.constexpr,
) -> tl.tensor:
    """The mean of `new` and the kept vectors that are finite, which move back by one."""
    total, moved = new, new
    count = tl.zeros_like(new) + 1.0
    for part in range(KEPT):
        at = kept_ptr + (slot * KEPT + part) * WIDTH + column
        value = tl.load(at, mask=real, other=0.0).to(tl.float32)
        tl.store(at, moved, mask=real)
        there = _finite(value)
        total += tl.where(there, value, 0.0)
        count += tl.where(there, 1.0, 0.0)
        moved = value
    return tl.div_rn(total, count)


@triton.jit
def _write_int8(
    served_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    slot: tl.tensor,
    at: tl.tensor,
    real: tl.tensor,
    wins: tl.tensor,
    served: tl.tensor,
    good: tl.tensor,
) -> None:
    """255 steps between -max and max; the scale of a row that is not good is NaN."""
    served = tl.where(good, served, 0.0)
    scale = tl.div_rn(tl.max(tl.abs(served)), 127.0)
    scale = tl.minimum(scale, _INT8_SCALE_LIMIT)
    written = scale >= _TINY
    steps = served * tl.div_rn(1.0, tl.where(written, scale, 1.0))
    steps = tl.where(written, (steps + _ROUNDS) - _ROUNDS, 0.0)
    tl.store(served_ptr + at, steps.to(tl.int8), mask=real)
    scale = tl.where(written, scale, tl.where(good, 0.0, float("nan")))
    tl.store(scale_ptr + slot, scale, mask=wins)


@triton.jit(do_not_specialize=["slot_count"])
def write_kernel(
    new_ptr: tl.tensor,
    slots_ptr: tl.tensor,
    sequence_ptr: tl.tensor,
    served_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    kept_ptr: tl.tensor,
    latest_ptr: tl.tensor,
    drift_ptr: tl.tensor,
    slot_count: tl.tensor,
    weight: tl.tensor,
    norm_max: tl.tensor,
    WIDTH: tl.constexpr,
    KEPT: tl.constexpr,
    INT8: tl.constexpr,
    EXPONENTIAL: tl.constexpr,
    CLIPPED: tl.constexpr,
    DRIFT: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Program i takes row i. A row that lost reads and writes nothing of the table."""
    row = tl.program_id(0).to(tl.int64)
    slot, sequence = tl.load(slots_ptr + row), tl.load(sequence_ptr + row)
    inside = (slot >= 0) & (slot < slot_count)
    wins = inside & (tl.load(latest_ptr + slot, mask=inside, other=-1) == sequence)
    column = tl.arange(0, BLOCK_D)
    real = wins & (column < WIDTH)
    at = slot * WIDTH + column

    new = tl.load(new_ptr + row * WIDTH + column, mask=real, other=0.0).to(tl.float32)
    served, before = new, new
    if EXPONENTIAL or DRIFT:
        before = _served_before(served_ptr, scale_ptr, slot, at, real, wins, INT8)
    if EXPONENTIAL:
        served = tl.where(_finite(before), before + weight * (new - before), new)
    if KEPT > 0:
        served = _mean_and_keep(new, kept_ptr, slot, column, real, WIDTH, KEPT)
    if CLIPPED:
        norm = tl.sqrt_rn(tl.sum(served * served))
        served = served * tl.div_rn(norm_max, tl.maximum(norm, norm_max))

    good = _finite(served)
    if INT8:
        _write_int8(served_ptr, scale_ptr, slot, at, real, wins, served, good)
    else:
        half = tl.minimum(tl.maximum(served, -_FP16_LIMIT), _FP16_LIMIT)
        tl.store(served_ptr + at, tl.where(good, half, float("nan")).to(tl.float16), mask=real)
    if DRIFT:
        norms = tl.sqrt_rn(tl.sum(served * served)) * tl.sqrt_rn(tl.sum(before * before))
        there = wins & (norms > 0.0)  # not so of NaN
        cosine = tl.div_rn(tl.sum(served * before), tl.where(there, norms, 1.0))
        tl.store(drift_ptr + row, tl.where(there, cosine, float("nan")))


def constants(
    width: int, kept: int, int8: bool, exponential: bool, clipped: bool, drift: bool
) -> dict[str, object]:
    """The writing kernel's compile-time arguments and launch options of one width."""
    block = max(16, triton.next_power_of_2(width))
    return {
        "WIDTH": width,
        "KEPT": kept,
        "INT8": int8,
        "EXPONENTIAL": exponential,
        "CLIPPED": clipped,
        "DRIFT": drift,
        "BLOCK_D": block,
        "num_warps": max(1, min(8, block // 256)),
    }


@triton_op(  # pyright: ignore[reportUntypedFunctionDecorator]
    "predawn::stabilise_quant_scatter", mutates_args=("served", "scale", "kept", "latest")
)
def stabilise_quant_scatter_triton(
    new: Tensor,
    slots: Tensor,
    sequence: Tensor,
    served: Tensor,
    scale: Tensor | None,
    kept: Tensor | None,
    latest: Tensor,
    weight: float | None,
    norm_max: float | None,
    drift: bool,
) -> Tensor:
    """`stabilise_quant_scatter` by the kernels; arguments are checked there."""
    (rows, width), count = new.shape, latest.shape[0]
    cosines = torch.empty(rows if drift else 0, dtype=torch.float32, device=new.device)
    given = (new.contiguous(), slots.contiguous(), sequence.contiguous())
    modes = (scale is not None, weight is not None, norm_max is not None, drift)
    fixed = constants(width, 0 if kept is None else kept.shape[1], *modes)
    if rows:
        claims = (triton.cdiv(rows, _CLAIMED),)
        wrap_triton(claim_kernel)[claims](*given[1:], latest, rows, count, BLOCK=_CLAIMED)
        wrap_triton(write_kernel)[(rows,)](
            *given,
            served,
            scale,
            kept,
            latest,
            cosines,
            count,
            1.0 if weight is None else weight,
            1.0 if norm_max is None else norm_max,
            **fixed,
        )
    return cosines
