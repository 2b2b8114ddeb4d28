"""Replays a trace and reports: the library behind `predawn replay`."""

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from predawn.server.clock import Clock
from predawn.server.replay.embeddings import embeddings_of
from predawn.server.replay.loss import ranking_loss
from predawn.server.replay.options import ReplayOptions
from predawn.server.replay.oracle import oracle
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
    report = _replay_once(trace, options, options.mode, on_progress)
    if options.failure_rate > 0 and options.mode != "realtime":
        bare = replace(options, mode="realtime", failover_ttl_ms=None, retries=0)
        without = _replay_once(trace, bare, "without store", on_progress).fallbacks_per_request
        report = replace(report, fallbacks_per_request_without_store=without)
    checked = oracle(trace, options) if options.oracle else None
    compared: dict[str, ModelReport] = {}
    if options.compare_modes:
        first = _warmed_up(trace, options.warm_up)
        for name, case in options.cases().items():
            compared[name] = _replay_once(trace, case, name, on_progress, first)
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
    )


def _replay_once(
    trace: Trace, options: ReplayOptions, what: str, on_progress: Progress, first: int = 0
) -> ModelReport:
    """One replay of the whole trace; the figures count from request `first` on."""
    embeddings, ranker = embeddings_of(trace, options.models)
    loop = SimLoop()
    world = World(
        trace, options, embeddings, ranker, loop, lambda share: on_progress(what, share), first
    )
    simulate(world.run(), loop)
    on_progress(what, 1.0)
    loss = ranking_loss(trace, world.recording, first, options.models is not None)
    return model_report(world, options, loss)


def _warmed_up(trace: Trace, warm_up: float) -> int:
    """The first request after the warm-up; at least one counts."""
    begin = trace.t_ms[0] + warm_up * (trace.t_ms[-1] - trace.t_ms[0])
    return min(int(np.searchsorted(trace.t_ms, begin)), len(trace) - 1)
