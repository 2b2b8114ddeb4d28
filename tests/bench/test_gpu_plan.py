"""The plan of the GPU bench: every setting is reached, every kernel is in the small cases."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gpu_host_rig import host_rig
from interpreted import DEVICE, triton
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from predawn.bench import gpu_plan
from predawn.bench.gpu_cases import Case, CrossShape, cross_case
from predawn.bench.gpu_cases_attention import AttnShape, attn_case
from predawn.bench.gpu_numerics import judge_case
from predawn.bench.gpu_timer import Ceilings
from predawn.bench.harness import Stamp
from predawn.kernels.cross_lowrank_triton import SETTINGS
from predawn.kernels.hstu_prefix_attn import TILINGS, tiling_of

KERNELS = Path(gpu_plan.__file__).resolve().parent.parent / "kernels"


def test_real_shapes_reach_every_setting() -> None:
    for size, widest in SETTINGS:
        narrower = max(
            (top for other, top in SETTINGS if other == size and top < widest), default=0
        )
        shapes = [s for s in gpu_plan.CROSS if s.dtype.itemsize == size]
        assert any(narrower < s.width <= widest for s in shapes), (size, widest)


def test_attention_is_measured_at_each_head_dimension_and_in_each_mode() -> None:
    used = {s.tiling or tiling_of(s.dtype, s.dim) for s in gpu_plan.ATTENTIONS}
    assert {TILINGS[2, dim, True] for dim in (32, 64, 128)} <= used
    assert TILINGS[2, 128, False] in used
    modes = {(any(s.prefix), s.causal, s.written) for s in gpu_plan.ATTENTIONS}
    wanted = {(True, False, False), (True, True, True), (False, True, True), (False, True, False)}
    assert wanted <= modes
    first = gpu_plan.ATTENTIONS[0]
    assert (first.prefix, first.rows, first.heads * first.dim) == ((4096,), (512,), 2048)


def test_every_kernel_is_in_the_small_cases_and_right() -> None:
    cases = gpu_plan.small_cases(DEVICE)
    operations = {path.name.removesuffix("_triton.py") for path in KERNELS.glob("*_triton.py")}
    names = [case.name.split()[0] for case in cases]
    assert [o for o in operations - {"silu"} if not any(map(o.startswith, names))] == []
    for case in cases:
        assert judge_case(case).good, case.name


def test_peers_can_be_captured_as_graphs() -> None:
    """They never look at a value on the device (which would wait for it): fakes have none."""
    for case in [*gpu_plan.small_cases(DEVICE), _even()]:
        for call in (*case.peers.values(), *case.yardsticks.values()):
            with FakeTensorMode(allow_non_fake_inputs=True):
                call()


def _even() -> Case:
    return attn_case(AttnShape((70, 70), (3, 3), 1, 32), DEVICE)


def test_a_look_at_a_value_is_seen() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(DataDependentOutputException):
        bool((torch.zeros(2) == 0).all())


def test_compilations_after_the_first_count_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiling(device: str, count: int) -> list[Case]:
        def kernel() -> torch.Tensor:
            hook = triton.knobs.runtime.jit_post_compile_hook
            if hook and count > 2:
                hook(key="a kernel")
            return torch.zeros(1)

        return [replace(cross_case(CrossShape(1, 4, 2, 1), device), kernel=kernel)]

    monkeypatch.setattr(gpu_plan, "small_cases", compiling)
    assert gpu_plan.compiles_after_warm_up(DEVICE, (3, 1, 2)) == 0
    assert gpu_plan.compiles_after_warm_up(DEVICE, (1, 2, 3, 4)) == 2


def test_parts_are_begun_only_when_called() -> None:
    parts = gpu_plan.parts(host_rig(), Stamp("gpu", "", ""), Ceilings(1e9, 1e9))
    assert list(parts) == ["foundation model", "launch", "contention", "settings"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_all_cases_can_be_made() -> None:
    for build in gpu_plan.CASES:
        assert build("cuda").bytes > 0
