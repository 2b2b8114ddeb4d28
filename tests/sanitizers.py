"""The native code under sanitizers: builds it apart, runs its tests, tortures it, feeds it damage.

`python tests/sanitizers.py [--seconds N]` (`make sanitize`) prints a row a job and ends with 1 if
any job failed or any sanitizer had a word to say; nothing is suppressed. What is built goes to
build/sanitize, never into the tree. Needs g++ with its sanitizers; the fuzzer needs clang and its
runtime (Debian packages clang, libclang-rt-dev and libfuzzer-dev of one version) and is left out,
by name, without.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "sanitize"
NATIVE = ROOT / "tests" / "csrc"
AT_ONCE = 2
NATIVE_PARTS = 3
LIMIT_S = 900.0
# name -> what the compiler calls it, and the runtime that Python has to load first
SANITIZERS = {"address": ("address,undefined", "libasan.so"), "thread": ("thread", "libtsan.so")}
# Tests of Python that compile programs of their own: compilers do not run under a sanitizer.
COMPILING = ("test_native.py", "test_planted_bugs.py", "test_policy.py", "test_models.py")
STRESS = ("torture_test.cpp", "cache_stress_test.cpp")
FUZZERS = ("clang++", *(f"clang++-{version}" for version in range(22, 13, -1)))


@dataclass(frozen=True, slots=True)
class Job:
    """A command that must end well. reports: folder in which no sanitizer may write a file."""

    name: str
    sanitizer: str
    command: Sequence[str]
    reports: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended; `text`: what it said, if it did not end well."""

    job: Job
    seconds: float
    text: str
    is_well: bool


def options(reports: Path) -> dict[str, str]:
    """What sanitizers are told: reports go to files, so that none of a killed worker is lost."""
    shared = f"log_path={reports / 'report'}"
    return {
        "ASAN_OPTIONS": f"{shared}:detect_leaks=0:halt_on_error=1:exitcode=66:quarantine_size_mb=8",
        "UBSAN_OPTIONS": f"{shared}:halt_on_error=1:print_stacktrace=1:exitcode=66",
        "TSAN_OPTIONS": f"{shared}:exitcode=66:die_after_fork=0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def run(job: Job) -> Outcome:
    """Runs a job to its end, or for `LIMIT_S`."""
    job.reports.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    environment = {**os.environ, **options(job.reports), **job.environment}
    try:
        done = subprocess.run(
            job.command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S
        )
        text, code = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired:
        text, code = f"not done after {LIMIT_S:g} s", 1
    reports = [report.read_text(errors="replace") for report in sorted(job.reports.iterdir())]
    is_well = code == 0 and not reports and "needs a sanitizer runtime" not in text
    return Outcome(job, time.monotonic() - begin, "\n".join([text, *reports]), is_well)


def job_of(name: str, sanitizer: str, *command: str, **environment: str) -> Job:
    """A job with a folder of its own."""
    reports = WORK / "reports" / re.sub(r"\W+", "-", f"{name}-{sanitizer}")
    return Job(name, sanitizer, command, reports, environment)


def build_job(sanitizer: str) -> Job:
    """The extensions, and the Python around them, under build/sanitize."""
    at = WORK / sanitizer
    where = ("--build-base", str(at / "temp"), "--build-lib", str(at / "lib"))
    return job_of(
        "build",
        sanitizer,
        *(sys.executable, "setup.py", "--quiet", "build", *where),
        PREDAWN_SANITIZE=SANITIZERS[sanitizer][0],
        PREDAWN_EXTENSIONS="",
    )


def loaded(sanitizer: str) -> dict[str, str]:
    """The environment in which Python runs the instrumented extensions. The C++ library comes
    first, too: the sanitizer looks at its exceptions when it starts."""
    libraries = [library(name) for name in (SANITIZERS[sanitizer][1], "libstdc++.so")]
    return {"LD_PRELOAD": " ".join(libraries), "PYTHONPATH": str(WORK / sanitizer / "lib")}


def library(name: str) -> str:
    """The path of a library of the compiler's."""
    command = ["g++", f"-print-file-name={name}"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return str(Path(found.stdout.strip()).resolve())


def python_jobs(sanitizer: str, seconds: int) -> list[Job]:
    """What runs in Python, on the instrumented extensions."""
    ignored = [f"--ignore={NATIVE / name}" for name in COMPILING]
    pytest = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    bench = (sys.executable, "-m", "predawn.server.__main__", "bench", "torture")
    environment = loaded(sanitizer)
    return [
        job_of(
            "tests in Python",
            sanitizer,
            *(*pytest, "--hypothesis-profile=ci", *ignored, str(NATIVE)),
            **environment,
        ),
        job_of(
            f"torture by processes {seconds} s",
            sanitizer,
            *(*bench, "--seconds", str(seconds), "--seed", "7", "--json", "-"),
            **environment,
        ),
    ]


def native_jobs(sanitizer: str) -> list[Job]:
    """All native tests, as `make test` runs them, in parts of like length."""
    pytest = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    names = sorted(path.stem for path in NATIVE.glob("*_test.cpp"))
    jobs: list[Job] = []
    for part in range(NATIVE_PARTS):
        chosen = f"{sanitizer} and ({' or '.join(names[part::NATIVE_PARTS])})"
        name = f"native tests, part {part + 1}"
        command = (*pytest, "-k", chosen, str(NATIVE / "test_native.py"))
        jobs.append(job_of(name, sanitizer, *command))
    return jobs


def stress_jobs(sanitizer: str, seconds: int) -> list[Job]:
    """The concurrent native tests for longer than `make test` runs them."""
    jobs: list[Job] = []
    for source in STRESS:
        argument = str(seconds) if source == "torture_test.cpp" else str(seconds * 500)
        jobs.append(
            program_job(
                f"stress {source}",
                sanitizer,
                ("g++", "-O1", f"-fsanitize={SANITIZERS[sanitizer][0]}"),
                source,
                argument,
            )
        )
    return jobs


def program_job(
    name: str,
    sanitizer: str,
    compiler: Sequence[str],
    source: str,
    *arguments: str,
    **environment: str,
) -> Job:
    """Compiles a program and runs it."""
    binary = WORK / f"{source}.{sanitizer}"
    compile_ = [*compiler, "-std=c++20", "-g1", "-pthread", f"-I{ROOT / 'csrc'}"]
    script = 'binary=$1 && shift && count=$1 && shift && "${@:1:count}" && "$binary" "${@:count+1}"'
    building = [*compile_, str(NATIVE / source), "-o", str(binary)]
    command = ("bash", "-c", script, "bash", str(binary), str(len(building)), *building, *arguments)
    return job_of(name, sanitizer, *command, **environment)


def fuzzer() -> str | None:
    """A clang++ that has libFuzzer."""
    probe = (
        'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
    )
    flags = ("-fsanitize=fuzzer,address", "-x", "c++", "-", "-o", str(WORK / "probe"))
    for name in FUZZERS:
        if shutil.which(name) is None:
            continue
        done = subprocess.run([name, *flags], input=probe, capture_output=True, text=True)
        if done.returncode == 0:
            return name
    return None


def fuzz_job(compiler: str, seconds: int) -> Job:
    """libFuzzer on damaged stores."""
    corpus = WORK / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    limits = (f"-max_total_time={seconds}", "-max_len=200", "-len_control=0", "-seed=1")
    artifacts = f"-artifact_prefix={WORK}/"
    compile_ = (compiler, "-O1", "-fsanitize=fuzzer,address,undefined")
    return program_job(
        f"fuzzer {seconds} s",
        "address",
        (*compile_, "-fno-sanitize-recover=undefined"),
        "fuzz_attach.cpp",
        *(*limits, artifacts, str(corpus)),
        ASAN_OPTIONS="detect_leaks=0",  # it says what it found itself, and ends with 1
        UBSAN_OPTIONS="print_stacktrace=1",
    )


def show(outcome: Outcome) -> None:
    """A row of the table, and what a failed job said."""
    job = outcome.job
    result = "clean" if outcome.is_well else "FAILED"
    print(f"{job.name:34} {job.sanitizer:9} {outcome.seconds:7.1f} s  {result}", flush=True)
    if not outcome.is_well:
        print("\n".join(outcome.text.splitlines()[-60:]), file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 if everything was clean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="of each stress")
    seconds: int = parser.parse_args(arguments).seconds
    shutil.rmtree(WORK / "reports", ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = work(pool, seconds)
    return 0 if all(outcome.is_well for outcome in outcomes) else 1


def work(pool: ThreadPoolExecutor, seconds: int) -> list[Outcome]:
    """Builds, then everything else, two jobs at a time."""
    outcomes: list[Outcome] = []
    jobs = [build_job(sanitizer) for sanitizer in SANITIZERS]
    for step in (jobs, later_jobs(seconds)):
        for future in as_completed([pool.submit(run, job) for job in step]):
            outcomes.append(future.result())
            show(outcomes[-1])
        if not all(outcome.is_well for outcome in outcomes):
            break
    return outcomes


def later_jobs(seconds: int) -> list[Job]:
    """What needs the build, or nothing."""
    jobs = [job for sanitizer in SANITIZERS for job in python_jobs(sanitizer, seconds)]
    for sanitizer in SANITIZERS:
        jobs += native_jobs(sanitizer) + stress_jobs(sanitizer, seconds)
    compiler = fuzzer()
    if compiler is None:
        print("fuzzer: left out, no clang++ with -fsanitize=fuzzer here", flush=True)
        return jobs
    return [*jobs, fuzz_job(compiler, 2 * seconds)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
