"""What pairs cost the server's own process per request: CPU measured from outside, four servers
that take turns.

`none` reads no pairs at all; `read` reads and serves them, and nothing is computed or learned;
`hooks` also keeps the books and learns what users will ask for, but may compute nothing; `on`
computes a pair per pair asked for, in the models' process, whose CPU does not count here.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from predawn.bench import harness, machine, rig
from predawn.bench.child import Child, free_port
from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.speculate_rig import Traffic, drive, factory, settings

NOTHING: dict[str, Any] = {"predictor": "none", "pairs_per_asked": 0.0}
KINDS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "read": NOTHING,
    "hooks": {"predictor": "learned", "pairs_per_asked": 0.0},
    "on": {"predictor": "learned", "pairs_per_asked": 1.0},
}
_CASE = "CPU of the server's process"


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. turns: of each server; slice_s: of a turn."""

    traffic: Traffic
    turns: int
    slice_s: float


FULL = Plan(Traffic(rate=400, users=256, items=100), turns=5, slice_s=3)
SMOKE = Plan(Traffic(rate=100, users=4, items=6), turns=1, slice_s=0.3)


def rows(mark: Stamp, folder: Path, *, smoke: bool, effort: Effort) -> list[Row]:
    """us of CPU a request of each kind, and what each step adds, per request and per shown pair."""
    if not effort.wants(_CASE):
        return []
    plan = SMOKE if smoke else FULL
    with ExitStack() as ends:
        servers = {
            kind: ends.enter_context(rig.running(_settings(folder / kind, each), folder / kind))
            for kind, each in KINDS.items()
        }
        for child in servers.values():
            drive(child, plan.traffic, plan.slice_s, seed=99)
        cpu: dict[str, list[float]] = {kind: [] for kind in servers}
        for turn in range(plan.turns):
            for kind, child in servers.items():
                cpu[kind].append(_cpu_us(child, plan, turn))
    return _rows(mark, plan, cpu)


def _settings(folder: Path, speculation: Mapping[str, Any] | None) -> rig.Settings:
    if speculation is None:
        return settings(folder, free_port(), None)
    pairs = {**factory(), "ttl": "60s", "speculation": dict(speculation)}
    return settings(folder, free_port(), pairs)


def _cpu_us(child: Child, plan: Plan, seed: int) -> float:
    """Of one request; the books that are kept after the last reply are in it."""
    messages, at_ns = plan.traffic.messages(seed), plan.traffic.at_ns(plan.slice_s, seed)
    before_ns = machine.cpu_ns(child.pid)
    answered = rig.drive(child, messages, at_ns).totals.answered
    return (machine.cpu_ns(child.pid) - before_ns) / max(1, answered) / 1e3


def _rows(mark: Stamp, plan: Plan, cpu: Mapping[str, list[float]]) -> list[Row]:
    n = round(plan.turns * plan.slice_s * plan.traffic.rate)
    found: list[Row] = []
    for kind, turns in cpu.items():
        value, spread = float(np.median(turns)), harness.spread(turns)
        found += [
            mark.row(_CASE, f"cpu_per_request_{kind}", value, "us", n=n),
            mark.row(_CASE, f"cpu_per_request_{kind}_spread", spread, "share", n=plan.turns),
        ]
    for more, less in (("read", "none"), ("hooks", "read"), ("on", "hooks"), ("on", "read")):
        added = [a - b for a, b in zip(cpu[more], cpu[less], strict=True)]
        value, share = float(np.median(added)), float(np.median(added) / np.median(cpu[more]))
        name = f"{more}_over_{less}"
        found += [
            mark.row(_CASE, f"{name}_per_pair", value / plan.traffic.items, "us", n=n),
            mark.row(_CASE, f"{name}_share", share, "share of a request", n=n),
        ]
    return found
