"""p99 of POST /v1/rank while speculation keeps the models' process busy all the time, against the
same server without anything computed; and, to tell what the machine's scheduler adds, against that
one beside a process that has nothing to do with it and takes whatever CPU is left.

A server of its own for every turn, so that nobody's background work is in another's turn; the
kinds take turns, one way round and then the other. All processes share the machine's cores with the
client.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from predawn.bench import harness, rig
from predawn.bench.child import free_port
from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.speculate_rig import (
    Meter,
    Served,
    Traffic,
    Worked,
    drive,
    factory,
    foundation,
    settings,
    tell_past,
    warm,
)

_PEERS = {"off": "speculation off", "busy": "speculation off, busy machine"}
_BURN = """
import os, sys
os.nice(19)
while os.getppid() == int(sys.argv[1]):
    sum(range(100_000))
"""

BAR = 1.10
"""The p99 may be so many times what it is without speculation."""

ENDLESS: dict[str, Any] = {"pairs_per_asked": 1_000.0, "entries": 1.0, "least_chance": 0.0}
NOTHING: dict[str, Any] = {"predictor": "none", "pairs_per_asked": 0.0}


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. ttl_ms: of pairs, too short for all of them to be computed in; turns: of each kind;
    warm_s: at the start of a turn, then slice_s are measured; events: of every user's past; size:
    of the foundation model; pair_us: of the other model."""

    traffic: Traffic
    ttl_ms: int
    turns: int
    warm_s: float
    slice_s: float
    events: int
    size: str
    pair_us: float


FULL = Plan(
    Traffic(rate=200, users=256, items=100),
    ttl_ms=4_000,
    turns=7,
    warm_s=4,
    slice_s=12,
    events=100,
    size="small",
    pair_us=200,
)
SMOKE = Plan(
    Traffic(rate=60, users=4, items=6),
    ttl_ms=200,
    turns=1,
    warm_s=0.3,
    slice_s=1.0,
    events=4,
    size="tiny",
    pair_us=2_000,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of one kind gave."""

    served: Served
    worked: Worked


def rows(mark: Stamp, folder: Path, *, smoke: bool, effort: Effort) -> list[Row]:
    """A case for a real foundation model, and one for a model that costs what it is told to."""
    plan = SMOKE if smoke else FULL
    found: list[Row] = []
    for name, make in _models(plan).items():
        case = f"speculation saturated against off, {name}"
        if effort.wants(case):
            found += _case(mark, case, plan, make(folder / "model"), folder / f"{len(found)}")
    return found


def _models(plan: Plan) -> dict[str, Callable[[Path], dict[str, Any]]]:
    return {
        f"foundation model {plan.size}": lambda folder: foundation(folder, plan.size),
        f"{plan.pair_us:g} us a pair": lambda folder: factory(pair_us=plan.pair_us),
    }


def _case(mark: Stamp, case: str, plan: Plan, model: Mapping[str, Any], folder: Path) -> list[Row]:
    kinds = {"on": ENDLESS, "off": NOTHING, "busy": NOTHING}
    turns: dict[str, list[Turn]] = {kind: [] for kind in kinds}
    for number in range(plan.turns):
        for kind in (*kinds,) if number % 2 else reversed(kinds):
            pairs = {**model, "ttl": plan.ttl_ms, "speculation": kinds[kind]}
            with _burner() if kind == "busy" else nullcontext():
                turns[kind].append(_turn(plan, pairs, folder / f"{number}-{kind}", number))
    return _rows(mark, case, turns)


@contextmanager
def _burner() -> Generator[None, None, None]:
    """A process that takes all CPU that nobody else wants, as that of the models may; it ends with
    this one."""
    with subprocess.Popen([sys.executable, "-S", "-c", _BURN, str(os.getpid())]) as process:
        try:
            yield
        finally:
            process.kill()


def _turn(plan: Plan, pairs: Mapping[str, Any], folder: Path, seed: int) -> Turn:
    with rig.running(settings(folder, free_port(), pairs), folder) as child:
        tell_past(child, plan.traffic.users, plan.events)
        if pairs["speculation"] is NOTHING:
            drive(child, plan.traffic, plan.warm_s, seed=1_000 + seed)
        else:
            warm(child, plan.traffic, plan.warm_s)
        meter = Meter(child)
        served = drive(child, plan.traffic, plan.slice_s, seed)
        return Turn(served, meter.read())


def _rows(mark: Stamp, case: str, turns: Mapping[str, list[Turn]]) -> list[Row]:
    n = sum(len(turn.served.took_ns) for turn in turns["on"])
    found: list[Row] = []
    for metric, q in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
        took = {kind: [each.served.quantile_ms(q) for each in turns[kind]] for kind in turns}
        for other in ("off", "busy"):
            found += _against(mark, case, metric, took["on"], (other, took[other]), n)
    for kind, each in turns.items():
        unserved = sum(turn.served.unserved for turn in each)
        share = float(np.median([turn.worked.share for turn in each]))
        rate = float(np.median([turn.worked.computed / turn.worked.seconds for turn in each]))
        found += [
            mark.row(case, f"unserved_{kind}", unserved, "requests", n=n),
            mark.row(case, f"engine_share_{kind}", share, "share", "higher", n=len(each)),
            mark.row(case, f"computed_{kind}", rate, "pairs/s", "higher", n=len(each)),
        ]
    return found


def _against(
    mark: Stamp, case: str, metric: str, on: list[float], peer: tuple[str, list[float]], n: int
) -> list[Row]:
    """Turn by turn: a ratio is of two turns right after each other."""
    kind, others = peer
    ratios = [a / b for a, b in zip(on, others, strict=True)]
    value, other = float(np.median(on)), float(np.median(others))
    ratio, over = harness.times_better(value, other), f"{metric}_over_{kind}"
    limit = BAR if kind == "off" else None
    return [
        mark.row(case, metric, value, "ms", peer=_PEERS[kind], ratio=ratio, n=n),
        mark.row(case, over, float(np.median(ratios)), "x", limit=limit, n=len(ratios)),
        mark.row(case, f"{over}_spread", harness.spread(ratios), "share", n=len(ratios)),
    ]
