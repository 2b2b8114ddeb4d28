"""The kernels on a GPU: first whether they are right, then how fast, against torch and the limit.

`python -m predawn.bench.gpu OUTDIR` (see gpu.sh) writes OUTDIR/gpu.json, one object with the
device, its measured ceilings, a verdict per case and one row per figure, and prints the same as a
table. Only what was measured in this run is written. Exit status: 0 all right, 1 a kernel is
wrong or compiled again for another count, 2 no GPU.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from triton import knobs

from predawn.bench.gpu_cases import BagShape, Case, CrossShape, bag_case, cross_case
from predawn.bench.gpu_numerics import judge_case
from predawn.bench.gpu_timer import Ceilings, CudaTimer, Timer, measure_ceilings
from predawn.bench.harness import Row, Stamp, times_better

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32

CROSS = (
    CrossShape(1, 64, 16, 1, FULL),
    CrossShape(256, 112, 16, 1, FULL, apart=True),
    CrossShape(256, 128, 16, 2, FULL),
    CrossShape(512, 100, 32, 2, BRAIN),
    CrossShape(512, 256, 64, 2, BRAIN),
    CrossShape(512, 512, 128, 3, BRAIN),
    CrossShape(4096, 512, 128, 3, BRAIN),
    CrossShape(32768, 512, 128, 3, BRAIN),
    CrossShape(32768, 512, 128, 1, BRAIN, apart=True),
    CrossShape(32768, 500, 100, 3, HALF),
)
BAGS = (
    BagShape(1, 16, 16, 10_000, 4, FULL),
    BagShape(256, 16, 16, 10_000, 4, FULL, mean=True),
    BagShape(1, 64, 64, 1_000_000, 10, HALF),
    BagShape(256, 64, 64, 1_000_000, 10, HALF),
    BagShape(256, 512, 128, 100_000, 20, HALF),
    BagShape(64, 8, 200, 50_000, 30, HALF, mean=True),
)
COUNTS = (1, 2, 15, 16, 17, 300)  # counts that would each compile anew if they were specialised


@dataclass(frozen=True, slots=True)
class Rig:
    """Where and with what to run; the tests pass the CPU, a host's clock and a `scale` of sizes."""

    device: str
    timer: Timer
    compiled: Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
    scale: int = 1


def missing_gpu() -> str:
    """Why nothing can be measured here, or ""."""
    if not torch.cuda.is_available():
        return f"no CUDA device that torch {torch.__version__} can use"
    return ""


def rows_of(case: Case, rig: Rig, ceilings: Ceilings, mark: Stamp) -> list[Row]:
    """The kernel's time against the floor and each peer, plain and under torch.compile."""
    own = rig.timer.time(case.kernel)
    limit = ceilings.floor_us(case.bytes, case.flop)
    peers = dict(case.peers) | {f"{n} compiled": rig.compiled(p) for n, p in case.peers.items()}
    rows = [mark.row(case.name, "time_p99", own.p99_us, "us", n=own.n)]
    for name, call in peers.items():
        ratio = times_better(own.median_us, rig.timer.time(call).median_us)
        rows.append(
            mark.row(
                case.name, "time", own.median_us, "us", limit=limit, peer=name, ratio=ratio, n=own.n
            )
        )
    return rows


def compiles_after_warm_up(device: str) -> int:
    """How many kernels Triton builds for the rest of `COUNTS` after the first; must be 0."""

    def run(count: int) -> None:
        cross_case(CrossShape(count, 64, 16, 1), device).kernel()
        bag_case(BagShape(count, 4, 16, 100, 4), device).kernel()

    built: list[object] = []

    def count_build(**told: object) -> None:
        built.append(told)

    run(COUNTS[0])
    knobs.runtime.jit_post_compile_hook = count_build
    for count in COUNTS[1:]:
        run(count)
    knobs.runtime.jit_post_compile_hook = None
    return len(built)


def table(rows: Sequence[Row]) -> str:
    """The rows of `time` as text."""
    head = f"{'case':44} {'us':>9} {'floor us':>9} {'of floor':>8}  {'against':24} {'ratio':>6}"
    lines = [
        f"{r.case:44} {r.value:9.2f} {r.limit or 0:9.2f} {r.share_of_limit or 0:8.0%}"
        f"  {r.peer or '':24} {r.ratio or 0:6.2f}"
        for r in rows
        if r.metric == "time"
    ]
    return "\n".join([head, *lines])


def measure(cases: Sequence[Callable[[], Case]], rig: Rig, mark: Stamp) -> dict[str, object]:
    """What gpu.json holds. One case's tensors at a time."""
    ceilings = measure_ceilings(rig.timer, rig.device, rig.scale)
    verdicts: list[dict[str, object]] = []
    rows: list[Row] = []
    for build in cases:
        case = build()
        verdict = judge_case(case)
        verdicts.append({"case": case.name, "tolerance": case.tolerance, **asdict(verdict)})
        rows += rows_of(case, rig, ceilings, mark)
    return {
        "device": mark.device,
        "torch": torch.__version__,
        "commit": mark.commit,
        "ceilings": asdict(ceilings),
        "compiles_after_warm_up": compiles_after_warm_up(rig.device),
        "good": all(bool(verdict["good"]) for verdict in verdicts),
        "verdicts": verdicts,
        "rows": [row.as_json() for row in rows],
        "table": table(rows),
    }


def write(result: dict[str, object], out: Path) -> int:
    """Writes OUTDIR/gpu.json, prints table and verdicts; the exit status."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    (out / "gpu.json").write_text(text, encoding="utf-8")
    print(result["table"])
    print(f"kernels right: {result['good']}; compiled anew: {result['compiles_after_warm_up']}")
    return 0 if result["good"] and not result["compiles_after_warm_up"] else 1


def main(arguments: Sequence[str]) -> int:
    """OUTDIR [COMMIT] -> exit status."""
    reason = missing_gpu()
    if reason:
        print(f"predawn: bench/gpu.sh needs an NVIDIA GPU: {reason}", file=sys.stderr)
        return 2
    rig = Rig("cuda", CudaTimer(), torch.compile)
    mark = Stamp("gpu", arguments[1], torch.cuda.get_device_name())
    builders = [partial(cross_case, shape, rig.device) for shape in CROSS]
    builders += [partial(bag_case, shape, rig.device) for shape in BAGS]
    return write(measure(builders, rig, mark), Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
