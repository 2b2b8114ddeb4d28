"""The store's protocol, model-checked: runs Spin over tests/models and says what it found.

`python tests/spin_models.py [--full]` (`make verify`, `make verify FULL=1`) prints one row a run
and ends with 1 unless every run came out as it must: the protocol exhaustively without an error,
every planted fault caught. What each model checks, and what it leaves out, stands at its head.
Needs Debian's package `spin`, and a C compiler.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).resolve().parent / "models"
WORK = Path(__file__).resolve().parents[1] / "build" / "models"
NEEDS = "needs spin (Debian package spin)"
DEPTH = 200_000  # steps of one run of the model; reaching it fails the check
MEMORY_MB = 5_500  # of one check
AT_ONCE = 2
LIMIT_S = 1_200.0


@dataclass(frozen=True, slots=True)
class Run:
    """A model and its switches; `caught`: they plant a fault, which must be found."""

    model: str
    switches: tuple[str, ...] = ()
    caught: bool = False

    @property
    def name(self) -> str:
        """As it stands in the table and names the folder of its files."""
        return " ".join((self.model, *self.switches))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: `result` in words, `is_as_expected` for the exit status."""

    run: Run
    states: int
    seconds: float
    result: str
    is_as_expected: bool


def runs(model: str, *switches: str, caught: bool = False) -> tuple[Run, ...]:
    """One run for each string of switches."""
    return tuple(Run(model, tuple(given.split()), caught) for given in switches)


# A second or two each; tests/csrc/test_models.py runs them.
QUICK = (
    *runs("one_key", "NW=1 PUTS=3", "NW=1 PUTS=3 VM=3", "PUTS=1 MAXD=1"),
    *runs("two_keys", "", "P2=2 HAND EMPTY"),
    *runs("stopped_writer", "ONEKEY EMPTY"),
    *runs("reaping", "LATE"),
)
FAULTS = (
    *runs("one_key", "NW=1 PUTS=3 NOVER", "NW=1 PUTS=3 NOKEY", caught=True),
    *runs("one_key", "NW=1 PUTS=3 REREADFIRST", "NW=1 PUTS=3 LATEOPEN", caught=True),
    *runs("one_key", "NW=1 PUTS=3 EARLYCLOSE", "NW=1 PUTS=3 PLAINMARK", caught=True),
    *runs("two_keys", "CALLS=1 ONEKEY NOVER", "P2=2 NOREREAD", caught=True),
    *runs("two_keys", "P2=2 ONEKEY REMOVES CLEARZERO", "P2=2 GIVEUP EXACTWORD", caught=True),
    *runs("two_keys", "P2=2 HAND PLAINHAND", caught=True),
    *runs("stopped_writer", "EMPTY ONEKEY WAITS", "ONEKEY BUDGET=5", caught=True),
    *runs("reaping", "NAIVEREAP", "NOTELATE", "LATE REAPERS=2 NOREASK", caught=True),
)
LONG = (
    *runs("one_key", "", "VM=3"),
    *runs("two_keys", "P2=2 REMOVES", "P2=2 GIVEUP", "P2=2 ANYSLOT", "P2=2 VM=3"),
    *runs("two_keys", "CALLS=1 REMOVES", "CALLS=1 HAND", "CALLS=1 SAMEFP"),
    *runs("stopped_writer", ""),
    *runs("reaping", "LATE REAPERS=2", ""),
)
FULL = (
    *runs("reaping", "ONEKEY DEATHS=2", "ONEKEY STOPS=1"),
    *runs("two_keys", "CALLS=2 ONEKEY REMOVES", "CALLS=1 ONEKEY NS=4"),
    *runs("stopped_writer", "CALLS=1 ONEKEY EMPTY"),
)


def tool_missing() -> str:
    """ "" when spin is installed; else what to say."""
    return "" if shutil.which("spin") else NEEDS


def check(run: Run, work: Path, limit_s: float = LIMIT_S) -> Outcome:
    """Builds and runs one model; its files, a counter-example included, stay in `work`."""
    folder = work / re.sub(r"\W+", "_", run.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    given = [f"-D{switch}" for switch in run.switches]
    _call(["spin", "-a", *given, str(MODELS / f"{run.model}.pml")], folder)
    compiler = [os.environ.get("CC", "cc"), "-O1" if run.caught else "-O2", "-w"]
    options = ["-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}"]
    _call([*compiler, *options, "-o", "pan", "pan.c"], folder)
    begin = time.perf_counter()
    report = _pan(folder, limit_s)
    return judged(run, report, time.perf_counter() - begin)


def check_all(todo: Sequence[Run], work: Path) -> Iterator[Outcome]:
    """The outcomes, as they come; `AT_ONCE` runs at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(check, run, work) for run in todo]
        for done in as_completed(waiting):
            yield done.result()


def _call(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} in {folder} failed:\n{done.stdout}{done.stderr}")


def _pan(folder: Path, limit_s: float) -> str:
    """What the checker printed; less than all of it when it ran out of time."""
    command = ["nice", "-n", "5", "./pan", f"-m{DEPTH}", "-w24"]
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=limit_s
        ).stdout
    except subprocess.TimeoutExpired:
        return ""


def judged(run: Run, report: str, seconds: float) -> Outcome:
    errors = re.search(r"errors: (\d+)", report)
    states = re.search(r"(\d+) states, stored", report)
    is_cut = "Search not completed" in report or "max search depth too small" in report
    violated = re.search(r"pan:\d+: (.*?) \(at depth", report)
    if errors is None or (is_cut and errors[1] == "0"):
        result, is_as_expected = "CUT OFF: out of time, memory or depth", False
    elif errors[1] == "0":
        result = "NOT CAUGHT" if run.caught else "exhaustive, 0 errors"
        is_as_expected = not run.caught
    else:
        what = violated[1] if violated else "error"
        result, is_as_expected = ("caught" if run.caught else f"FAILED: {what}"), run.caught
    return Outcome(run, int(states[1]) if states else 0, seconds, result, is_as_expected)


def _row(outcome: Outcome) -> str:
    run = outcome.run
    switches = " ".join(f"-D{switch}" for switch in run.switches)
    numbers = f"{outcome.states:>12,}  {outcome.seconds:>7.1f}"
    return f"{run.model:<15} {switches:<33} {numbers}  {outcome.result}"


def main(arguments: Sequence[str]) -> int:
    """Prints the table; 1 if any run did not come out as it must, 2 if spin is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the larger configurations too")
    chosen = parser.parse_args(arguments)
    if missing := tool_missing():
        print(f"make verify {missing}: apt-get install spin", file=sys.stderr)
        return 2
    todo = [*(FULL if chosen.full else ()), *reversed(LONG), *QUICK, *FAULTS]
    begin = time.perf_counter()
    print(f"{'model':<15} {'configuration':<33} {'states':>12}  {'seconds':>7}  result", flush=True)
    outcomes: list[Outcome] = []
    for outcome in check_all(todo, WORK):
        outcomes.append(outcome)
        print(_row(outcome), flush=True)
    failed = [outcome for outcome in outcomes if not outcome.is_as_expected]
    states = sum(outcome.states for outcome in outcomes)
    print(
        f"{len(outcomes)} runs, {states:,} states, {time.perf_counter() - begin:.0f} s: "
        + (f"{len(failed)} NOT as they must be" if failed else "all as they must be")
    )
    for outcome in failed:
        folder = WORK / re.sub(r"\W+", "_", outcome.run.name)
        print(f"to see how: cd {folder} && ./pan -r", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
