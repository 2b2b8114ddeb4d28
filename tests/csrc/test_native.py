"""Builds and runs the native tests: each *_test.cpp here is a program that exits 0 or says why not.

All run under AddressSanitizer and UndefinedBehaviorSanitizer, the concurrent ones also under
ThreadSanitizer, but for the one that switches stacks by itself, which sanitizers cannot follow.
Warnings are errors.
"""

import functools
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
SOURCES = sorted(path.name for path in HERE.glob("*_test.cpp"))
CONCURRENT = [
    "cache_stress_test.cpp",
    "counters_test.cpp",
    "set_stress_test.cpp",
    "torture_test.cpp",
    "worker_pool_test.cpp",
]
UNSANITIZED = ["explorer_test.cpp"]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]


def build_and_run(source: Path, binary: Path, sanitizers: str) -> subprocess.CompletedProcess[str]:
    """The finished run; CalledProcessError with the compiler's words when it does not build."""
    compiler = os.environ.get("CXX", "c++")
    how = ["-O1", f"-fsanitize={sanitizers}"] if sanitizers else ["-O2"]
    flags = ["-std=c++20", "-g1", "-pthread", *how, *WARNINGS]
    subprocess.run(
        [compiler, *flags, f"-I{CSRC}", str(source), "-o", str(binary)],
        check=True,
        capture_output=True,
        text=True,
    )
    environment = {**os.environ, "UBSAN_OPTIONS": "halt_on_error=1", "TSAN_OPTIONS": "exitcode=66"}
    return subprocess.run([binary], capture_output=True, text=True, env=environment, timeout=240)


@functools.cache
def is_available(sanitizers: str) -> bool:
    """Whether an empty program builds and runs with them."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.cpp"
        probe.write_text("int main() { return 0; }\n")
        try:
            return build_and_run(probe, Path(folder) / "probe", sanitizers).returncode == 0
        except subprocess.CalledProcessError:
            return False


@pytest.mark.parametrize(
    ("source", "sanitizers"),
    [(source, "address,undefined") for source in SOURCES if source not in UNSANITIZED]
    + [(source, "thread") for source in CONCURRENT]
    + [(source, "") for source in UNSANITIZED],
)
def test_native_test_passes(source: str, sanitizers: str, tmp_path: Path) -> None:
    if not is_available(sanitizers):
        pytest.skip(f"needs a sanitizer runtime: -fsanitize={sanitizers}")
    run = build_and_run(HERE / source, tmp_path / "test", sanitizers)
    assert run.returncode == 0, run.stdout + run.stderr
