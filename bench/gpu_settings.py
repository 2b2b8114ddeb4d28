"""Other settings of the attention than those it is served with: what a table is made from.

`hstu_prefix_attn.TILINGS` holds the fastest of these on the device that it names; a run shows
whether they still are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from predawn.bench.gpu_cases_attention import AttnShape, attn_case
from predawn.bench.gpu_rig import Rig
from predawn.bench.gpu_timer import Ceilings
from predawn.bench.harness import Row, Stamp
from predawn.kernels.hstu_prefix_attn import Tiling, tiling_of

WIDE = AttnShape((4096,) * 8, (512,) * 8, 16, 128, torch.bfloat16)
NARROW = AttnShape((4096,), (32,), 16, 128, torch.bfloat16)

_WIDE = tiling_of(torch.bfloat16, 128)
_NARROW = tiling_of(torch.bfloat16, 128, many=False)
WIDE_TILINGS = (
    _WIDE,
    *(replace(_WIDE, stages=stages) for stages in (2, 4)),
    *(replace(_WIDE, keys=32, stages=stages) for stages in (3, 4)),
    *(replace(_WIDE, rows=64, warps=4, stages=stages) for stages in (2, 3)),
    replace(_WIDE, chunk=4096),
)
NARROW_TILINGS = (
    _NARROW,
    *(replace(_NARROW, stages=stages) for stages in (2, 3)),
    replace(_NARROW, keys=32, stages=4),
    replace(_NARROW, warps=4),
    replace(_NARROW, rows=32),
    *(replace(_NARROW, chunk=chunk) for chunk in (256, 1024)),
)


def settings_rows(
    rig: Rig,
    mark: Stamp,
    ceilings: Ceilings,
    tried: Sequence[tuple[AttnShape, Sequence[Tiling]]] = (
        (WIDE, WIDE_TILINGS),
        (NARROW, NARROW_TILINGS),
    ),
) -> Iterator[Row]:
    """Microseconds of each setting against the floor; the first of a shape is the served one."""
    for shape, tilings in tried:
        for tiling in tilings:
            case = attn_case(replace(shape, tiling=tiling), rig.device)
            taken = rig.timer.time(case.kernel)
            limit = ceilings.floor_us(case.bytes, case.flop)
            name = (
                f"settings {tiling.rows}x{tiling.keys} of {tiling.chunk} keys, "
                f"{tiling.warps} warps, {tiling.stages} stages, C{max(shape.rows)}"
            )
            yield mark.row(name, "time", taken.median_us, "us", limit=limit, n=taken.n)
