"""The model of pairs in trouble, on a real server: it fails, hangs, is slow, or its process dies.

Pairs last a short time only, so that what is served tells how the model is doing. Every request has
to be served as fast as before, by what is left: younger pairs, then fills, then the default.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predawn.bench import rig
from predawn.bench.child import Child, free_port
from predawn.bench.fault_models import TROUBLES
from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.speculate_rig import MODEL, Served, Traffic, drive, factory, settings, warm

FILLS = ("user_mean", "recent", "neighbour")
PHASES = ("before", "during", "recovering", "after")
_FILL_TTL = "60s"
_PATIENCE_MS = 1_000.0  # the deadline of a request: an answer that waited is later than this


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. ttl_ms: of pairs; phase_s: of each of PHASES; warm_s: before the first trouble."""

    traffic: Traffic
    ttl_ms: int
    warm_s: float
    phase_s: float


FULL = Plan(Traffic(rate=200, users=32, items=50), ttl_ms=1_000, warm_s=3, phase_s=8)
SMOKE = Plan(Traffic(rate=80, users=4, items=6), ttl_ms=200, warm_s=0.5, phase_s=0.7)


def rows(mark: Stamp, folder: Path, *, smoke: bool, effort: Effort) -> list[Row]:
    """A case for each trouble, one after the other on one server; `served`, `counts_right` and
    `counted_per_replied` have to be 1, `late` 0."""
    plan = SMOKE if smoke else FULL
    cases = {f"the model of pairs in trouble: {each}": each for each in TROUBLES}
    cases = {case: each for case, each in cases.items() if effort.wants(case)}
    flag = folder / "trouble"
    made = settings(folder, free_port(), _pairs(plan, flag))
    made["engine"] |= {"hang_after": "500ms"}
    with rig.running(made, folder) as child:
        warm(child, plan.traffic, plan.warm_s)
        return [
            row
            for case, each in cases.items()
            for row in _case(mark, case, plan, child, _Trouble(flag, each))
        ]


@dataclass(frozen=True, slots=True)
class _Trouble:
    """The file that the model looks at, and what is to be in it."""

    flag: Path
    name: str


def _case(mark: Stamp, case: str, plan: Plan, child: Child, trouble: _Trouble) -> Iterator[Row]:
    told, restarts = _pair_counts(child), _restarts(child)
    phases = dict[str, Served](zip(PHASES, _phases(child, plan, trouble), strict=True))
    counted, restarts = _pair_counts(child) - told, _restarts(child) - restarts
    yield from _rows(mark, case, phases, counted, restarts)


def _pairs(plan: Plan, flag: Path) -> dict[str, Any]:
    """A model that could do four times what the traffic asks for."""
    model = factory(pair_us=25.0, slow_s=plan.ttl_ms / 5e3, trouble=str(flag))
    return model | {"ttl": plan.ttl_ms, "fill_ttl": _FILL_TTL}


def _restarts(child: Child) -> float:
    return rig.metrics(child).total("predawn_engine_restarts_total")


def _phases(child: Child, plan: Plan, trouble: _Trouble) -> Iterator[Served]:
    yield drive(child, plan.traffic, plan.phase_s, seed=1)
    trouble.flag.write_text(trouble.name, encoding="ascii")
    try:
        yield drive(child, plan.traffic, plan.phase_s, seed=2)
    finally:
        trouble.flag.unlink(missing_ok=True)
    rig.wait_ready(child)
    yield drive(child, plan.traffic, plan.phase_s, seed=3)
    yield drive(child, plan.traffic, plan.phase_s, seed=4)


def _pair_counts(child: Child) -> float:
    return rig.metrics(child).total("predawn_pairs_total", model=MODEL)


def _rows(
    mark: Stamp, case: str, phases: Mapping[str, Served], counted: float, restarts: float
) -> Iterator[Row]:
    n = sum(len(served.took_ns) for served in phases.values())
    served_all = n - sum(served.unserved for served in phases.values())
    right = served_all - sum(served.wrong for served in phases.values())
    yield mark.row(case, "served", served_all / n, "share", "higher", limit=1.0, n=n)
    yield mark.row(case, "counts_right", right / n, "share", "higher", limit=1.0, n=n)
    late = sum(took > _PATIENCE_MS * 1e6 for each in phases.values() for took in each.took_ns)
    yield mark.row(case, "late", late, "requests", n=n)
    for phase, served in phases.items():
        yield mark.row(case, f"direct_{phase}", served.share("direct"), "share", "higher")
        yield mark.row(case, f"fills_{phase}", served.share(*FILLS), "share", "higher")
        yield mark.row(case, f"default_{phase}", served.share("default"), "share")
        yield mark.row(case, f"p99_{phase}", served.quantile_ms(0.99), "ms")
    replied = sum(served.sources.total() for served in phases.values())
    yield mark.row(case, "counted_per_replied", counted / replied, "pairs", limit=1.0, n=replied)
    yield mark.row(case, "restarts", restarts, "times")
