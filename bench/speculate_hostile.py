"""Traffic in which no pair is ever asked for twice: speculation has to notice that it is of no use
and leave the engine alone, but for the little that tells it when that changes.

Held against the same server when users do come back: there it is of use, and goes on.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predawn.bench import rig
from predawn.bench.child import Child, free_port
from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.load import Send
from predawn.bench.speculate_rig import (
    MODEL,
    Meter,
    Served,
    Traffic,
    Worked,
    drive,
    factory,
    settings,
    warm,
)

BAR = 0.05
"""Speculation that is of no use may take so much of the engine's time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. warm_s: users come back; learn_s: until speculation has to know; watch_s: then its
    engine time is measured."""

    traffic: Traffic
    pair_us: float
    warm_s: float
    learn_s: float
    watch_s: float


FULL = Plan(Traffic(rate=100, users=64, items=50), pair_us=100, warm_s=2, learn_s=20, watch_s=10)
SMOKE = Plan(Traffic(rate=50, users=4, items=6), pair_us=500, warm_s=0.3, learn_s=1, watch_s=1)


def rows(mark: Stamp, folder: Path, *, smoke: bool, effort: Effort) -> list[Row]:
    """A case for each kind of traffic; the server's own words on it end the case's name."""
    plan = SMOKE if smoke else FULL
    cases = {"no pair is asked for twice": False, "users come back": True}
    return [
        row
        for case, comes_back in cases.items()
        if effort.wants(case)
        for row in _case(mark, case, plan, folder / str(comes_back), comes_back)
    ]


def _case(mark: Stamp, case: str, plan: Plan, folder: Path, comes_back: bool) -> Iterator[Row]:
    pairs = {**factory(pair_us=plan.pair_us), "ttl": "2s"}
    with rig.running(settings(folder, free_port(), pairs), folder) as child:
        warm(child, plan.traffic, plan.warm_s)
        _drive(child, plan, plan.learn_s, 0, comes_back)
        meter = Meter(child)
        _drive(child, plan, plan.watch_s, 1, comes_back)
        worked, words = meter.read(), said(child)
    yield from _rows(mark, f"{case}: {words}", plan, worked, comes_back)


def _drive(child: Child, plan: Plan, seconds: float, turn: int, comes_back: bool) -> None:
    if comes_back:
        drive(child, plan.traffic, seconds, seed=turn)
        return
    at_ns = plan.traffic.at_ns(seconds, seed=turn)
    messages = plan.traffic.never_again(len(at_ns), turn)
    sends = (Send(int(at), messages[i], i) for i, at in enumerate(at_ns))
    rig.drive_sends(child.port, sends, Served(plan.traffic.items))


def said(child: Child) -> str:
    """What the server says of how its speculation is doing."""
    told: dict[str, Any] = json.loads(child.get("/info")[1])
    reason: str = told["pairs"][MODEL]["speculation"]["reason"]
    return reason or "it pays: all of the budget"


def _rows(mark: Stamp, case: str, plan: Plan, worked: Worked, comes_back: bool) -> Iterator[Row]:
    asked = plan.traffic.rate * plan.traffic.items
    n = round(asked * worked.seconds)
    limit = None if comes_back else BAR
    yield mark.row(case, "engine_share", worked.share, "share", limit=limit, n=n)
    yield mark.row(case, "computed_per_asked", worked.computed / n, "pairs", n=n)
    all_missed = asked * plan.pair_us / 1e6
    yield mark.row(case, "engine_share_if_all_were_computed", all_missed, "share", n=n)
