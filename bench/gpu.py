"""The kernels on a GPU: first whether they are right, then how fast, against torch and the limit.

`python -m predawn.bench.gpu OUTDIR` (see gpu.sh) writes OUTDIR/gpu.json, one object with the
device, its measured ceilings, a verdict per case and one row per figure, and prints the same as a
table. Only what was measured in this run is written; what was not, and why, is in `left_out`. Exit
status: 0 all right, 1 a kernel is wrong, failed, or compiled again for another count, 2 no GPU.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch

from predawn.bench.gpu_cases import Case
from predawn.bench.gpu_numerics import judge_case
from predawn.bench.gpu_plan import CASES, COUNTS, FIRST_CASES, compiles_after_warm_up, parts
from predawn.bench.gpu_rig import Rig, cuda_rig
from predawn.bench.gpu_timer import Ceilings, measure_ceilings
from predawn.bench.harness import Row, Stamp, times_better

Part = Callable[[], Iterable[Row]]


def missing_gpu() -> str:
    """Why nothing can be measured here, or ""."""
    if not torch.cuda.is_available():
        return f"no CUDA device that torch {torch.__version__} can use"
    return ""


@dataclass(slots=True)
class Findings:
    """What a run has found so far. failed: parts and cases that raised an error."""

    rows: list[Row] = field(default_factory=list[Row])
    verdicts: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    left_out: list[str] = field(default_factory=list[str])
    failed: int = 0

    def add(self, name: str, part: Part) -> None:
        """The rows of `part`, up to an error in it: of any kind, what else was measured is kept."""
        try:
            for row in part():
                self.rows.append(row)
        except Exception as error:
            self.left_out.append(f"{name}: {type(error).__name__}: {error}")
            self.failed += 1


def rows_of(
    case: Case, rig: Rig, ceilings: Ceilings, mark: Stamp, left_out: list[str]
) -> Iterator[Row]:
    """The kernel's time against the floor and each peer, plain and under torch.compile."""
    own = rig.timer.time(case.kernel)
    limit = ceilings.floor_us(case.bytes, case.flop)
    peers = dict(case.peers)
    for name, peer in case.peers.items():
        compiled = rig.compiled(peer)
        if compiled:
            peers[f"{name} compiled"] = compiled
        else:
            left_out.append(f"{case.name}: {name} compiled: the time for compiling was spent")
    peers |= {f"{name}, another result": call for name, call in case.yardsticks.items()}
    yield mark.row(case.name, "time_p99", own.p99_us, "us", n=own.n)
    for name, call in (peers or {"": case.kernel}).items():
        ratio = times_better(own.median_us, rig.timer.time(call).median_us) if name else None
        yield mark.row(
            case.name, "time", own.median_us, "us",
            limit=limit, peer=name or None, ratio=ratio, n=own.n,
        )  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """One line per figure; tails of single kernels are in the JSON only."""
    head = f"{'case':58} {'figure':>12} {'limit':>12} {'of limit':>8}  {'against':30} {'ratio':>6}"
    lines = [
        f"{r.case:58} {r.value:12.4g} {r.limit or 0:12.4g} {r.share_of_limit or 0:8.0%}"
        f"  {r.peer or (r.metric + ' ' + r.unit):30} {r.ratio or 0:6.2f}"
        for r in rows
        if r.metric != "time_p99"
    ]
    return "\n".join([head, *lines])


def measure(
    cases: Sequence[Callable[[], Case]],
    more: Callable[[Ceilings], dict[str, Part]],
    rig: Rig,
    mark: Stamp,
    counts: Sequence[int] = COUNTS,
) -> dict[str, object]:
    """What gpu.json holds. One case's tensors at a time; `more` after the most wanted cases."""
    ceilings = measure_ceilings(rig.timer, rig.device, rig.scale)
    found = Findings()
    steps: list[tuple[str, Part]] = [
        (f"case {number}", partial(_judged, build, rig, ceilings, mark, found))
        for number, build in enumerate(cases)
    ]
    steps[FIRST_CASES:FIRST_CASES] = more(ceilings).items()
    for number, (name, part) in enumerate(steps):
        if rig.late():
            names = ", ".join(name for name, _ in steps[number:])
            found.left_out.append(f"{names}: the time was spent")
            break
        found.add(name, part)
    right = not found.failed and all(bool(verdict["good"]) for verdict in found.verdicts)
    return {
        "device": mark.device,
        "torch": torch.__version__,
        "commit": mark.commit,
        "ceilings": asdict(ceilings),
        "compiles_after_warm_up": compiles_after_warm_up(rig.device, counts),
        "good": right,
        "left_out": found.left_out,
        "verdicts": found.verdicts,
        "rows": [row.as_json() for row in found.rows],
        "table": table(found.rows),
    }


def _judged(
    build: Callable[[], Case], rig: Rig, ceilings: Ceilings, mark: Stamp, found: Findings
) -> Iterator[Row]:
    case = build()
    verdict = judge_case(case)
    found.verdicts.append({"case": case.name, "tolerance": case.tolerance, **asdict(verdict)})
    yield from rows_of(case, rig, ceilings, mark, found.left_out)


def write(result: dict[str, object], out: Path) -> int:
    """Writes OUTDIR/gpu.json, prints table and verdicts; the exit status."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    (out / "gpu.json").write_text(text, encoding="utf-8")
    print(result["table"])
    for line in result["left_out"]:  # type: ignore[attr-defined]
        print(f"left out: {line}")
    print(f"kernels right: {result['good']}; compiled anew: {result['compiles_after_warm_up']}")
    return 0 if result["good"] and not result["compiles_after_warm_up"] else 1


def main(arguments: Sequence[str]) -> int:
    """OUTDIR [COMMIT] -> exit status."""
    reason = missing_gpu()
    if reason:
        print(f"predawn: bench/gpu.sh needs an NVIDIA GPU: {reason}", file=sys.stderr)
        return 2
    rig = cuda_rig()
    mark = Stamp("gpu", arguments[1], torch.cuda.get_device_name())
    builders = [partial(build, rig.device) for build in CASES]
    result = measure(builders, lambda ceilings: parts(rig, mark, ceilings), rig, mark)
    return write(result, Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
