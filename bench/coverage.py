"""What coverage of pairs is worth, and how much of it a budget buys: on the generated workload,
whose truth is known.

Sweep: ranking loss at exact coverages 0 to 100 % and by level of what stands in for the rest; it
gives `fill_value`, what the scheduler takes a fill for. Budgets: the real speculation in replay by
budget and predictor, against plain rules and oracles under the same budget. Figures depend on
seeds alone, not on the machine: the mean over seeds, and of what has a bar the worst seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from statistics import mean
from typing import Any

from predawn.bench.coverage_levels import LEVELS, filled
from predawn.bench.coverage_sweep import Point, Sweep, Worth
from predawn.bench.harness import Better, Effort, Row, Stamp
from predawn.bench.workload import WorkloadOptions, generate
from predawn.server.clock import SystemClock
from predawn.server.replay import PairOptions, ReplayOptions, replay
from predawn.server.replay.pair_asks import asks_of
from predawn.server.replay.pair_world import PAIRS
from predawn.server.replay.run import warmed_up
from predawn.server.traces import Trace

_WARM_UP = 0.25
_PAPER = "ranker score"


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. swept: users of the sweep; steps: of its coverages."""

    users: int
    hours: float
    swept: int
    steps: int
    seeds: tuple[int, ...]
    budgets: tuple[float, ...]
    predictors: tuple[str, ...]


FULL = Plan(1_500, 96, 1_000, 5, (1, 2, 3), (0.25, 0.5, 1.0), ("learned", "score", "recency"))
SMOKE = Plan(40, 16, 40, 1, (1,), (1.0,), ("learned",))


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """The sweep, then budgets by predictor."""
    plan = SMOKE if smoke else FULL
    sweeps, cells = _sweep_cases(plan), _cells(plan)
    wanted = [each for each in cells if effort.wants(each.name)]
    rows: list[Row] = []
    if any(map(effort.wants, sweeps)):
        rows += _sweep(mark, plan)
    effort.progress(0.2)
    traces = cache(partial(_trace, plan.users, plan.hours))
    for done, cell in enumerate(wanted):
        found = [_replayed(traces(seed), cell, seed) for seed in plan.seeds]
        rows += _budget_rows(mark, cell, found)
        effort.progress(0.2 + 0.8 * (done + 1) / len(wanted))
    return rows


def _trace(users: int, hours: float, seed: int) -> Trace:
    return generate(WorkloadOptions(users=users, hours=hours, seed=seed))


# The sweep


def _sweep_cases(plan: Plan) -> list[str]:
    names = ["default", *(level.name for level in LEVELS)]
    coverages = [step / plan.steps for step in range(plan.steps + 1)]
    return [_point_name(c, name) for name in names for c in coverages] + [
        _worth_name(level.name) for level in LEVELS
    ]


def _point_name(coverage: float, level: str) -> str:
    return f"sweep, {coverage:.0%} exact, the rest {level}"


def _worth_name(level: str) -> str:
    return f"sweep, worth of {level}"


def _sweep(mark: Stamp, plan: Plan) -> Iterator[Row]:
    found = [_swept(plan, seed) for seed in plan.seeds]
    for points in zip(*(points for points, _ in found), strict=True):
        name = _point_name(points[0].coverage, points[0].level)
        n = len(points)
        yield mark.row(name, "ranking_loss", mean(p.loss for p in points), "NE", n=n)
        yield mark.row(name, "gain_kept", mean(p.kept for p in points), "share", "higher", n=n)
    for worths in zip(*(worths for _, worths in found), strict=True):
        name, n = _worth_name(worths[0].level), len(worths)
        for metric in ("share", "kept", "value"):
            value = mean(getattr(each, metric) for each in worths)
            yield mark.row(name, metric, value, "share", "higher", n=n)


def _swept(plan: Plan, seed: int) -> tuple[list[Point], list[Worth]]:
    trace = _trace(plan.swept, plan.hours, seed)
    asks = asks_of(trace, warmed_up(trace, _WARM_UP))
    levels = {level.name: filled(trace, level, budget=1.0) for level in LEVELS}
    sweep = Sweep(trace, asks, levels, seed)
    return list(sweep.points(plan.steps)), list(sweep.worths())


# Budgets


@dataclass(frozen=True, slots=True)
class _Cell:
    budget: float
    predictor: str

    @property
    def name(self) -> str:
        return f"budget {self.budget:g}, {self.predictor}"


def _cells(plan: Plan) -> list[_Cell]:
    return [_Cell(budget, each) for budget in plan.budgets for each in plan.predictors]


def _replayed(trace: Trace, cell: _Cell, seed: int) -> dict[str, Any]:
    pairs = PairOptions(budget=cell.budget, predictor=cell.predictor, baselines=True)
    options = ReplayOptions(seed=seed, warm_up=_WARM_UP, pairs=pairs)
    return replay(trace, options, SystemClock()).pairs[PAIRS]


def _budget_rows(mark: Stamp, cell: _Cell, found: list[dict[str, Any]]) -> Iterator[Row]:
    """peer: the paper's rule by plain dictionaries; limit: the oracle with the same candidates."""
    name, n = cell.name, len(found)
    exact = [each["coverage_exact"] for each in found]
    papers = mean(each["baselines"][_PAPER]["coverage_exact"] for each in found)
    limit = mean(each["oracles"]["same candidates"]["coverage_exact"] for each in found)
    yield mark.row(
        name,
        "coverage_exact",
        mean(exact),
        "share",
        "higher",
        limit=limit,
        peer=_PAPER,
        ratio=mean(exact) / papers if papers else None,
        n=n,
    )
    yield mark.row(name, "coverage_exact_worst_seed", min(exact), "share", "higher", n=n)
    for metric, path, better in _FIGURES:
        values = [value for each in found if (value := _at(each, path)) is not None]
        if values:
            yield mark.row(name, metric, mean(values), "share", better, n=n)
    for metric, of in _RIVALS.items():
        value = mean(each["baselines"][of]["coverage_exact"] for each in found)
        yield mark.row(name, metric, value, "share", "higher", n=n)
    for each in found[0]["thresholds"]:
        yield from _threshold_rows(mark, name, found, each["chance"])


def _threshold_rows(
    mark: Stamp, name: str, found: list[dict[str, Any]], chance: float
) -> Iterator[Row]:
    """Precision and recall of the predictor's pairs that it gave at least `chance`."""
    at = [next(row for row in each["thresholds"] if row["chance"] == chance) for each in found]
    for metric in ("precision", "recall"):
        values = [row[metric] for row in at if row[metric] is not None]
        if values:
            case = f"{name}, chance {chance:g} and more"
            yield mark.row(case, metric, mean(values), "share", "higher", n=len(values))


def _at(found: dict[str, Any], path: str) -> float | None:
    """A figure by its path; None where there is none."""
    value: Any = found
    for part in path.split("/"):
        value = value.get(part) if value is not None else None
    return None if value is None else float(value)


_FIGURES: tuple[tuple[str, str, Better], ...] = (
    ("coverage_with_fills", "coverage_with_fills", "higher"),
    ("budget_used", "budget_used", "lower"),
    ("waste", "waste", "lower"),
    ("gain_kept", "loss/kept", "higher"),
    ("gain_kept_direct", "loss/levels/direct/kept", "higher"),
    ("gain_kept_neighbour", "loss/levels/neighbour/kept", "higher"),
    ("gain_kept_user_mean", "loss/levels/user_mean/kept", "higher"),
    ("gain_kept_distilled", "distillation/distilled/kept", "higher"),
    ("gain_kept_papers_rule", f"baselines/{_PAPER}/kept", "higher"),
    ("gain_kept_no_speculation", "baselines/no speculation/kept", "higher"),
    ("calibration_error", "ece", "lower"),
    ("brier_score", "brier", "lower"),
    ("share_of_clairvoyant", "oracle_share/clairvoyant", "higher"),
)
_RIVALS = {
    "coverage_no_speculation": "no speculation",
    "coverage_last_list": "last list",
    "coverage_last_3": "last 3",
    "coverage_last_10": "last 10",
}
