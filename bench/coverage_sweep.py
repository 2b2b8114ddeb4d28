"""Ranking loss against exact coverage and the level of what stands in for the rest (the paper's
Table 2), on a trace whose truth is known.

Only candidates count that the replay served their own embedding, and of these only what was held
out from neighbours: each has its own, as old as it was, or what its level would have served at the
same moment. Which one is drawn at random, so that nothing else changes with coverage. The mean of
a user's own pairs has seen the pair itself, one of many.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from predawn.bench.coverage_levels import Filled, held_out
from predawn.bench.harness import BenchError
from predawn.server.replay.pair_asks import Asks
from predawn.server.replay.pair_loss import Bools, PairLoss, Served, products
from predawn.server.request import U8, Source
from predawn.server.traces import Trace

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Point:
    """coverage: share of candidates with their own embedding; level: of the others; loss:
    normalised entropy; kept: share of the foundation model's gain."""

    coverage: float
    level: str
    loss: float
    kept: float


@dataclass(frozen=True, slots=True)
class Worth:
    """Of a level's candidates alone. share: of all candidates, that it had something for; kept:
    share of the foundation model's gain on those; value: that over what the pairs' own embeddings
    keep of all."""

    level: str
    share: float
    kept: float
    value: float


class Sweep:
    """levels: by name, what each would have served, and what its replay did."""

    def __init__(self, trace: Trace, asks: Asks, levels: Mapping[str, Filled], seed: int) -> None:
        truth = trace.truth
        if truth is None or not trace.clicked.any():
            raise BenchError("coverage: needs the truth, and clicks")
        replays = list(levels.values())
        direct: Bools = np.all([each.served.sources == Source.DIRECT for each in replays], axis=0)
        fresh = products(truth, asks.request, trace.items.astype(np.int64))
        users = np.asarray(trace.users, dtype=np.uint64)[asks.request]
        only = direct & held_out(users, trace.items)
        self._loss = PairLoss(trace, int(asks.offsets[asks.first]), fresh, only)
        self._exact = replays[0].served.rows
        default = np.full(trace.rows, Source.DEFAULT, dtype=np.uint8)
        self._fills = {DEFAULT: Served(np.zeros_like(self._exact), default)}
        self._fills |= {name: each.absent for name, each in levels.items()}
        self._draw = np.random.default_rng(seed).random(trace.rows)

    def points(self, steps: int) -> Iterator[Point]:
        """Every level at coverages 0 .. 1 in so many steps."""
        for name, fill in self._fills.items():
            for step in range(steps + 1):
                found = self._loss.of(self._covered(step / steps, fill))
                yield Point(step / steps, name, found["served"], found["kept"] or 0.0)

    def worths(self) -> Iterator[Worth]:
        """Of every level that has something, but the default."""
        whole = self._loss.of(self._covered(1.0, self._fills[DEFAULT]))["kept"]
        for name, fill in self._fills.items():
            found = self._loss.of(fill)["levels"]
            mine = next((label for label in found if label != Source.DEFAULT.label), None)
            if mine is not None and whole:
                share, kept = found[mine]["share"], found[mine]["kept"] or 0.0
                yield Worth(name, share, kept, kept / whole)

    def _covered(self, coverage: float, fill: Served) -> Served:
        covered = self._draw < coverage
        rows = np.where(covered[:, None], self._exact, fill.rows)
        sources: U8 = np.where(covered, np.uint8(Source.DIRECT), fill.sources)
        return Served(rows, sources)
