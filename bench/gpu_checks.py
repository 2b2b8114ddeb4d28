"""Runs what checks the kernels on a GPU besides the bench: their tests, and memory checkers.

`python -m predawn.bench.gpu_checks OUTDIR SECONDS` writes OUTDIR/checks.json, check -> "passed",
"failed (status)", "absent: why" or "left out: the time was spent", and each one's output beside it.
Exit status: 1 if one failed.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Check:
    """A command that exits with 0 when all is well. absent: why it cannot run here, or ""."""

    name: str
    command: tuple[str, ...]
    absent: str = ""


def checks() -> list[Check]:
    """Small shapes; the same under compute-sanitizer, for accesses and for races; the tests."""
    small = (sys.executable, "-m", "predawn.bench.gpu_small")
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    no_tool = "" if Path(tool).exists() else "compute-sanitizer is not installed"
    sanitized = (tool, "--error-exitcode", "9", "--tool")
    missing = [name for name in ("pytest", "hypothesis") if not importlib.util.find_spec(name)]
    tests = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels")
    return [
        Check("small", small),
        Check("memcheck", (*sanitized, "memcheck", *small), no_tool),
        Check("racecheck", (*sanitized, "racecheck", *small), no_tool),
        Check("tests", tests, f"{', '.join(missing)} not installed" if missing else ""),
    ]


def run(
    wanted: Sequence[Check],
    out: Path,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    least_s: float = 10.0,
) -> dict[str, str]:
    """Check -> what became of it; all of them within about `seconds`, none begun for less
    than `least_s`."""
    out.mkdir(parents=True, exist_ok=True)
    end = clock() + seconds
    results: dict[str, str] = {}
    for check in wanted:
        left = end - clock()
        if check.absent:
            results[check.name] = f"absent: {check.absent}"
        elif left < least_s:
            results[check.name] = "left out: the time was spent"
        else:
            results[check.name] = _run(check, out / f"check_{check.name}.txt", left)
    return results


def _run(check: Check, log: Path, seconds: float) -> str:
    with log.open("w", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                check.command, stdout=file, stderr=file, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return "left out: the time was spent"
    return "passed" if done.returncode == 0 else f"failed ({done.returncode})"


def main(arguments: Sequence[str]) -> int:
    """OUTDIR SECONDS -> exit status."""
    out = Path(arguments[0])
    results = run(checks(), out, float(arguments[1]))
    (out / "checks.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    for name, result in results.items():
        print(f"check {name}: {result}")
    return 1 if any(result.startswith("failed") for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
