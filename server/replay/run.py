"""Replays a trace and reports: the library behind `predawn replay`."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from predawn.server.clock import Clock
from predawn.server.replay.embeddings import embeddings_of
from predawn.server.replay.loss import ranking_loss
from predawn.server.replay.options import ReplayOptions
from predawn.server.replay.oracle import oracle
from predawn.server.replay.pair_embeddings import pair_embeddings_of
from predawn.server.replay.pair_study import study
from predawn.server.replay.pair_world import PAIRS, MakePairs, PairWorld, WithoutPairs
from predawn.server.replay.report import ModelReport, ReplayReport, model_report
from predawn.server.replay.world import MODEL, World
from predawn.server.simloop import SimLoop, simulate
from predawn.server.traces import Trace

Progress = Callable[[str, float], None]
"""Called with what is being replayed and the share of it that is done."""


def silent(what: str, share: float) -> None:
    """A `Progress` that shows nothing."""


def replay(
    trace: Trace, options: ReplayOptions, clock: Clock, on_progress: Progress = silent
) -> ReplayReport:
    """Replays `trace`. clock: the real one, for `wall_s`; the replay itself runs in virtual time.

    With failures it also replays without store and without retries, for comparison. ConfigError and
    SnapshotError where `options.models` cannot be used.
    """
    began_ns = clock.monotonic_ns()
    world = _run(trace, options, options.mode, on_progress)
    report = _reported(trace, options, world)
    if options.failure_rate > 0 and options.mode != "realtime":
        bare = replace(options, mode="realtime", failover_ttl_ms=None, retries=0, pairs=None)
        without = _run(trace, bare, "without store", on_progress)
        default = _reported(trace, bare, without).fallbacks_per_request
        report = replace(report, fallbacks_per_request_without_store=default)
    checked = oracle(trace, options) if options.oracle else None
    compared: dict[str, ModelReport] = {}
    first = warmed_up(trace, options.warm_up)
    if options.compare_modes:
        for name, case in options.cases().items():
            again = _run(trace, case, name, on_progress, first)
            compared[name] = _reported(trace, case, again)
    return ReplayReport(
        requests=len(trace),
        users=len(trace.user_indices()[0]),
        wall_s=(clock.monotonic_ns() - began_ns) / 1e9,
        virtual_s=int(trace.t_ms[-1] - trace.t_ms[0]) / 1000,
        cost=asdict(options.cost),
        seed=options.seed,
        models={MODEL: report},
        oracle=checked,
        compare=compared,
        pairs=_pairs(trace, options, world, first, on_progress),
    )


def warmed_up(trace: Trace, warm_up: float) -> int:
    """The first request after the warm-up; at least one counts."""
    begin = trace.t_ms[0] + warm_up * (trace.t_ms[-1] - trace.t_ms[0])
    return min(int(np.searchsorted(trace.t_ms, begin)), len(trace) - 1)


def _run(
    trace: Trace, options: ReplayOptions, what: str, on_progress: Progress, first: int = 0
) -> World:
    """One replay of the whole trace; the figures count from request `first` on."""
    pairs = options.pairs
    make: MakePairs = WithoutPairs
    if pairs is not None:
        model = pair_embeddings_of(trace, pairs.fm)
        make = partial(PairWorld, trace, pairs, model, options.hang_s, options.seed)
    true_pairs = pairs is not None and pairs.fm is None
    embeddings, ranker = embeddings_of(trace, options.models, true_pairs, pairs is not None)
    loop = SimLoop()
    told = partial(on_progress, what)
    world = World(trace, options, embeddings, ranker, loop, told, first, make)
    simulate(world.run(), loop)
    on_progress(what, 1.0)
    return world


def _reported(trace: Trace, options: ReplayOptions, world: World) -> ModelReport:
    loss = ranking_loss(trace, world.recording, world.counted_from, options.models is not None)
    return model_report(world, options, loss)


def _pairs(
    trace: Trace, options: ReplayOptions, world: World, first: int, on_progress: Progress
) -> dict[str, dict[str, Any]]:
    """Of the foundation model, from request `first` on, under all budgets that were asked for."""
    asked = options.pairs
    if asked is None:
        return {}

    def again(budget: float) -> World:
        other = replace(options, pairs=replace(asked, budget=budget))
        return _run(trace, other, f"budget {budget:g}", on_progress)

    return {PAIRS: study(trace, first, asked, world, again, options.seed, on_progress)}
