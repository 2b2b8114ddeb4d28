"""Settings that are tried: the served ones first, each has its row."""

import torch
from gpu_host_rig import host_rig

from predawn.bench.gpu_cases_attention import AttnShape
from predawn.bench.gpu_settings import NARROW_TILINGS, WIDE_TILINGS, settings_rows
from predawn.bench.gpu_timer import Ceilings
from predawn.bench.harness import Stamp
from predawn.kernels.hstu_prefix_attn import TILINGS, Tiling


def test_served_settings_come_first_and_none_comes_twice() -> None:
    assert (WIDE_TILINGS[0], NARROW_TILINGS[0]) == (TILINGS[2, 128, True], TILINGS[2, 128, False])
    for tilings in (WIDE_TILINGS, NARROW_TILINGS):
        assert len(set(tilings)) == len(tilings)


def test_each_setting_has_its_row() -> None:
    shape = AttnShape((70,), (3,), 1, 32, torch.bfloat16)
    cuts = [Tiling(16, 32, chunk, 64, 4, 2) for chunk in (64, 128)]
    rows = list(
        settings_rows(host_rig(), Stamp("gpu", "", ""), Ceilings(1e9, 1e9), [(shape, cuts)])
    )
    assert [row.case for row in rows] == [
        f"settings 16x32 of {chunk} keys, 4 warps, 2 stages, C3" for chunk in (64, 128)
    ]
    assert all(row.value > 0 and row.limit for row in rows)
