"""A replayed model of pairs under one budget or several, beside what it is compared with."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from predawn.server.replay.pair_asks import asks_of
from predawn.server.replay.pair_options import PairOptions
from predawn.server.replay.pair_report import pair_report
from predawn.server.replay.pair_rivals import judge, rivals_of
from predawn.server.replay.pair_world import PairWorld
from predawn.server.replay.world import World
from predawn.server.traces import Trace


def study(
    trace: Trace,
    first: int,
    options: PairOptions,
    world: World,
    again: Callable[[float], World],
    seed: int,
    on_progress: Callable[[str, float], None],
) -> dict[str, Any]:
    """`pair_report` of `world`, which was replayed with `options`, on the requests from `first`
    on. With baselines also "baselines", "oracles", and "oracle_share", the part of each oracle's
    coverage that was reached; "own_history"; "distillation". With budgets "curve", the same for
    each of them, replayed by `again`."""
    asks, pairs = asks_of(trace, first), _pairs(world)
    loss = judge(trace, asks, pairs.fresh)
    rivals = rivals_of(trace, asks, loss, world.recording.scores)

    def figures(under: PairOptions, of: PairWorld) -> dict[str, Any]:
        found = pair_report(trace, asks, under, of, loss)
        return found | _compared(found, rivals.of(under)) if under.baselines else found

    found = figures(options, pairs)
    if options.baselines:
        on_progress("baselines", 1.0)
        found["distillation"] = rivals.distillation(seed)
    if options.budgets:
        found["curve"] = [
            figures(replace(options, budget=budget), _pairs(again(budget)))
            for budget in options.budgets
        ]
    return found


def _compared(found: dict[str, Any], rivals: dict[str, Any]) -> dict[str, Any]:
    covered = found["coverage_exact"]
    shares = {
        name: covered / oracle["coverage_exact"] if oracle["coverage_exact"] else None
        for name, oracle in rivals["oracles"].items()
    }
    return rivals | {"oracle_share": shares}


def _pairs(world: World) -> PairWorld:
    assert isinstance(world.pairs, PairWorld)
    return world.pairs
