"""What a result must say about where it was made: commit, device, and how quiet the machine was.

Only reads; the one thing it changes is the set of cores of a process, when told to (`pin`).
"""

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_GAP_NS = 50_000  # a pause of a spinning loop this long was somebody else's work
_NOISY = 0.02  # share of time lost to such pauses from which on results say so


def commit() -> str:
    """Short git commit of the tree ("+" when it has changes), else the package's version."""
    root = Path(__file__).resolve().parent.parent
    found = _git(root, "rev-parse", "--short=12", "HEAD") if (root / ".git").exists() else ""
    if not found:
        return metadata.version("predawn")
    return found + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def device() -> str:
    """CPU model and the cores this process may use, such as "AMD EPYC x2"."""
    return f"{_cpu_model()} x{len(os.sched_getaffinity(0))}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cores() -> list[int]:
    """Cores this process may run on, in order."""
    return sorted(os.sched_getaffinity(0))


def pin(pid: int, core: int) -> None:
    """Every thread of process `pid` (0: this one) runs on `core` alone from now on."""
    for task in os.listdir(f"/proc/{pid or os.getpid()}/task"):
        os.sched_setaffinity(int(task), {core})


def unpin(pid: int, allowed: list[int]) -> None:
    """Undoes `pin`: every thread of `pid` may run on `allowed` again."""
    for task in os.listdir(f"/proc/{pid or os.getpid()}/task"):
        os.sched_setaffinity(int(task), allowed)


def cpu_ns(pid: int) -> int:
    """CPU time that process `pid` has used since it started, all its threads, in ns.

    The clock id of a foreign process is built as in clock_getcpuclockid(3) of Linux.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


@dataclass(frozen=True, slots=True)
class Quiet:
    """How much of a short spin was lost to others. stall_share in 0..1, longest_us the worst."""

    stall_share: float
    longest_us: float

    @property
    def noisy(self) -> bool:
        """True: compare ratios of this run, do not quote its absolute numbers."""
        return self.stall_share > _NOISY

    def __str__(self) -> str:
        said = f"{self.stall_share:.1%} of time lost to others, longest {self.longest_us:.0f} us"
        return f"noisy machine: {said}" if self.noisy else f"quiet machine: {said}"


def quiet(spin_ms: float = 50.0) -> Quiet:
    """Spins for `spin_ms` and counts the pauses in which this thread did not run."""
    start = last = time.perf_counter_ns()
    end = start + round(spin_ms * 1e6)
    lost = longest = 0
    while last < end:
        now = time.perf_counter_ns()
        gap = now - last
        lost += gap if gap > _GAP_NS else 0
        longest = max(longest, gap)
        last = now
    return Quiet(lost / (last - start), longest / 1e3)
