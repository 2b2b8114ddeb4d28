"""All suites by name, and the way to run one: `run_suite("store", smoke=True)`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from predawn.bench import (
    codec,
    coverage,
    eviction,
    faults,
    harness,
    limits,
    machine,
    models,
    pairs,
    serve,
    speculate,
    store,
    swap,
)
from predawn.bench.harness import Effort, Row, Stamp
from predawn.server.errors import UnknownName


class Suite(Protocol):
    """Measures one part; `smoke` means tiny sizes: everything runs, no figure means anything."""

    def __call__(self, mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]: ...


def _jolt(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    from predawn.bench import jolt  # imports torch, which other suites need not wait for

    return jolt.run(mark, smoke=smoke, effort=effort)


SUITES: dict[str, Suite] = {
    "limits": limits.run,
    "codec": codec.run,
    "store": store.run,
    "eviction": eviction.run,
    "serve": serve.run,
    "pairs": pairs.run,
    "coverage": coverage.run,
    "faults": faults.run,
    "swap": swap.run,
    "models": models.run,
    "jolt": _jolt,
    "speculate": speculate.run,
}


def run_suite(
    name: str,
    *,
    smoke: bool = False,
    only: str = "",
    note: Callable[[str], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Row]:
    """Rows of the suite `name`, with a row on the machine's noise; UnknownName for others.

    only: as in Effort. note: is told, in a sentence, how quiet the machine was before and after.
    progress: is told which share of the suite is done, where the suite says so, and 1.0 at the end.
    """
    if name not in SUITES:
        raise UnknownName("suite", name, SUITES)
    mark = harness.stamp(name)
    before = machine.quiet(5 if smoke else 50)
    effort = replace(harness.SMOKE if smoke else harness.FULL, only=only)
    effort = effort if progress is None else replace(effort, progress=progress)
    found = SUITES[name](mark, smoke=smoke, effort=effort)
    rows = [row for row in found if effort.wants(row.case)]
    effort.progress(1.0)
    after = machine.quiet(5 if smoke else 50)
    worst = max(before, after, key=lambda quiet: quiet.stall_share)
    if note is not None:
        note(str(worst))
    return [*rows, harness.quiet_row(mark, worst)]
