"""Replay: the real policy, store, batcher and refresher on a trace, in virtual time."""

from predawn.server.replay.options import InferenceCost, ReplayOptions
from predawn.server.replay.pair_options import PairCost, PairOptions
from predawn.server.replay.report import ModelReport, ReplayReport
from predawn.server.replay.run import replay

__all__ = [
    "InferenceCost",
    "ModelReport",
    "PairCost",
    "PairOptions",
    "ReplayOptions",
    "ReplayReport",
    "replay",
]
