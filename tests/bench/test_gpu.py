"""bench/gpu: says so where there is no GPU, and measures and reports what it ran."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from gpu_host_rig import host_rig
from interpreted import DEVICE

from predawn.bench import gpu
from predawn.bench.gpu_cases import BagShape, Case, CrossShape, bag_case, cross_case
from predawn.bench.gpu_cases_attention import AttnShape, attn_case
from predawn.bench.gpu_rig import Rig
from predawn.bench.gpu_timer import Ceilings
from predawn.bench.harness import Row, Stamp

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = Stamp("gpu", "abc", "test device")
CASES = [
    partial(cross_case, CrossShape(4, 16, 4, 1), DEVICE),
    partial(bag_case, BagShape(3, 2, 16, 10, 4), DEVICE),
]


RIG = host_rig()


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


def _measure(
    cases: list = CASES, parts: dict[str, gpu.Part] | None = None, rig: Rig = RIG
) -> dict[str, object]:
    return gpu.measure(cases, lambda ceilings: parts or {}, rig, MARK, counts=(1,))


def test_result_holds_a_verdict_per_case_and_a_row_per_peer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.write(_measure(), tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert [verdict["good"] for verdict in result["verdicts"]] == [True, True]
    times = [row for row in result["rows"] if row["metric"] == "time"]
    assert [row["peer"] for row in times] == [
        *("eager", "eager compiled"),
        *("embedding_bag", "embedding_bag compiled"),
    ]
    assert all(row["value"] > 0 and row["limit"] > 0 and row["ratio"] > 0 for row in times)
    assert {row["device"] for row in times} == {"test device"}
    assert result["left_out"] == []
    assert "kernels right: True; compiled anew: 0" in capsys.readouterr().out


def test_yardsticks_are_said_to_have_another_result() -> None:
    case = attn_case(AttnShape((40,), (3,), 1, 32), DEVICE)
    rows = list(gpu.rows_of(case, RIG, Ceilings(1e12, 1e12), MARK, []))
    assert [row.peer for row in rows if row.metric == "time"] == [
        *("eager", "eager compiled"),
        "softmax (SDPA), another result",
    ]


def test_case_without_peers_is_timed_all_the_same() -> None:
    case = replace(CASES[0](), peers={})
    rows = list(gpu.rows_of(case, RIG, Ceilings(1e12, 1e12), MARK, []))
    assert [(row.metric, row.peer, row.ratio) for row in rows] == [
        ("time_p99", None, None),
        ("time", None, None),
    ]


def test_what_was_not_compiled_is_said() -> None:
    left_out: list[str] = []
    rig = replace(RIG, compiled=lambda call: None)
    rows = list(gpu.rows_of(CASES[0](), rig, Ceilings(1e12, 1e12), MARK, left_out))
    assert [row.peer for row in rows if row.metric == "time"] == ["eager"]
    assert left_out == [f"{CASES[0]().name}: eager compiled: the time for compiling was spent"]


def test_error_in_a_case_or_part_fails_the_run_and_nothing_else() -> None:
    def broken() -> Iterator[Row]:
        yield MARK.row("half", "time", 1.0, "us")
        raise RuntimeError("out of memory")

    def whole() -> Iterator[Row]:
        yield MARK.row("whole", "time", 1.0, "us")

    result = _measure(parts={"broken": broken, "whole": whole})
    assert result["left_out"] == ["broken: RuntimeError: out of memory"]
    assert not result["good"]
    assert "half" in str(result["table"]) and "whole" in str(result["table"])


def test_what_comes_late_is_left_out_and_said() -> None:
    calls = iter([False, True])
    rig = replace(RIG, late=lambda: next(calls))
    result = _measure(parts={"launch": lambda: []}, rig=rig)
    assert result["left_out"] == ["case 1, launch: the time was spent"]
    assert result["good"]


def test_parts_come_after_the_most_wanted_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noted(name: str, build: Callable[[], Case]) -> Callable[[], Case]:
        return lambda: (order.append(name), build())[1]

    def launch() -> list[Row]:
        order.append("launch")
        return []

    monkeypatch.setattr(gpu, "FIRST_CASES", 1)
    _measure([noted("first", CASES[0]), noted("second", CASES[1])], {"launch": launch})
    assert order == ["first", "launch", "second"]


def test_wrong_kernel_or_new_build_fails_the_run(tmp_path: Path) -> None:
    result: dict[str, object] = {"table": "", "good": False, "compiles_after_warm_up": 0}
    result["left_out"] = ["x: y"]
    assert gpu.write(result, tmp_path) == 1
    assert gpu.write(result | {"good": True, "compiles_after_warm_up": 2}, tmp_path) == 1


def test_table_shows_the_share_of_the_limit() -> None:
    rows = list(gpu.rows_of(CASES[0](), RIG, Ceilings(1e12, 1e12), MARK, []))
    assert rows[1].share_of_limit == pytest.approx((rows[1].limit or 0) / rows[1].value)
    assert f"{rows[1].value:.4g}" in gpu.table(rows)
    assert len(gpu.table(rows).splitlines()) == 1 + len(rows) - 1
