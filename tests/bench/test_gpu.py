"""bench/gpu: says so where there is no GPU, and measures and reports what it ran."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from interpreted import DEVICE

from predawn.bench import gpu
from predawn.bench.gpu_cases import BagShape, CrossShape, bag_case, cross_case
from predawn.bench.gpu_timer import Ceilings, Sample, sample
from predawn.bench.harness import Stamp

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = Stamp("gpu", "abc", "test device")
CASES = [
    partial(cross_case, CrossShape(4, 16, 4, 1), DEVICE),
    partial(bag_case, BagShape(3, 2, 16, 10, 4), DEVICE),
]


class HostTimer:
    """Three calls by the host's clock: enough for the way of the figures, not for figures."""

    def time(self, call: Callable[[], object]) -> Sample:
        spans = []
        for _ in range(3):
            start = time.perf_counter_ns()
            call()
            spans.append((time.perf_counter_ns() - start) / 1e3)
        return sample(spans)


RIG = gpu.Rig(DEVICE, HostTimer(), lambda call: call, scale=64)


def test_without_a_gpu_the_script_says_so(tmp_path: Path) -> None:
    paths = os.pathsep.join(p for p in ("/bin", "/usr/bin") if not Path(p, "nvidia-smi").exists())
    done = subprocess.run(
        ["/bin/bash", str(ROOT / "bench/gpu.sh"), str(tmp_path / "out")],
        env={"PATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "predawn: bench/gpu.sh needs an NVIDIA GPU: nvidia-smi lists none\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a CUDA device to be absent")
def test_without_a_usable_device_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main([str(tmp_path / "out"), ""]) == 2
    assert "needs an NVIDIA GPU: no CUDA device that torch" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_result_holds_a_verdict_per_case_and_a_row_per_peer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.write(gpu.measure(CASES, RIG, MARK), tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert [verdict["good"] for verdict in result["verdicts"]] == [True, True]
    times = [row for row in result["rows"] if row["metric"] == "time"]
    assert [row["peer"] for row in times] == [
        *("eager", "eager compiled"),
        *("embedding_bag", "embedding_bag compiled"),
    ]
    assert all(row["value"] > 0 and row["limit"] > 0 and row["ratio"] > 0 for row in times)
    assert {row["device"] for row in times} == {"test device"}
    assert "kernels right: True; compiled anew: 0" in capsys.readouterr().out


def test_wrong_kernel_or_new_build_fails_the_run(tmp_path: Path) -> None:
    result = {"table": "", "good": False, "compiles_after_warm_up": 0}
    assert gpu.write(result, tmp_path) == 1
    assert gpu.write(result | {"good": True, "compiles_after_warm_up": 2}, tmp_path) == 1


def test_table_shows_the_share_of_the_floor() -> None:
    rows = gpu.rows_of(CASES[0](), RIG, Ceilings(1e12, 1e12), MARK)
    assert rows[1].share_of_limit == pytest.approx((rows[1].limit or 0) / rows[1].value)
    assert f"{rows[1].value:.2f}" in gpu.table(rows)


def test_real_shapes_reach_every_setting() -> None:
    from predawn.kernels.cross_lowrank_triton import SETTINGS

    for size, widest in SETTINGS:
        narrower = max(
            (top for other, top in SETTINGS if other == size and top < widest), default=0
        )
        assert any(s.dtype.itemsize == size and narrower < s.width <= widest for s in gpu.CROSS), (
            size,
            widest,
        )
