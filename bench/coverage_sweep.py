"""Ranking loss against exact coverage and the level of what stands in for the rest (the paper's
Table 2), on a trace whose truth is known.

Candidates are covered at random, so that nothing else changes with coverage. A covered one has its
own embedding as of some requests of the user ago, as many as one that the replay really read. The
others have what their level would have served.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from predawn.bench.coverage_levels import Filled
from predawn.server.replay.pair_asks import Asks, position
from predawn.server.replay.pair_loss import F16, PairLoss, Served, products
from predawn.server.request import I64, U8, Source
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
    share of the foundation model's gain on those; value: that over what the pair's own embedding
    keeps, as aged as it is served."""

    level: str
    share: float
    kept: float
    value: float


class Sweep:
    """levels: by name, what each would have served; loss: judges rows of `trace`."""

    def __init__(
        self,
        trace: Trace,
        asks: Asks,
        loss: PairLoss,
        levels: Mapping[str, Filled],
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        nothing = np.zeros_like(next(iter(levels.values())).served.rows)
        default = np.full(trace.rows, Source.DEFAULT, dtype=np.uint8)
        self._fills = {DEFAULT: Served(nothing, default)}
        self._fills |= {name: each.served for name, each in levels.items()}
        self._loss = loss
        self._draw = rng.random(trace.rows)
        back = np.concatenate([each.back for each in levels.values()])
        self._exact = aged(trace, asks, rng.choice(back, trace.rows))

    def points(self, steps: int) -> Iterator[Point]:
        """Every level at coverages 0 .. 1 in so many steps."""
        for name, fill in self._fills.items():
            for step in range(steps + 1):
                covered = self._draw < step / steps
                found = self._loss.of(_either(covered, self._exact, fill))
                yield Point(step / steps, name, found["served"], found["kept"] or 0.0)

    def worths(self) -> Iterator[Worth]:
        """Of every level but the default."""
        all_covered = np.ones(len(self._draw), dtype=np.bool_)
        whole = self._loss.of(_either(all_covered, self._exact, self._fills[DEFAULT]))
        for name, fill in self._fills.items():
            found = self._loss.of(fill)["levels"]
            mine = next((label for label in found if label != Source.DEFAULT.label), None)
            if mine is not None:
                share, kept = found[mine]["share"], found[mine]["kept"] or 0.0
                yield Worth(name, share, kept, kept / whole["kept"])


def aged(trace: Trace, asks: Asks, back: I64) -> F16:
    """Every row's own embedding as it was computed `back` requests of the user before, at the
    earliest at his first. float16 [rows, dim]."""
    truth = trace.truth
    assert truth is not None
    order = np.argsort(asks.user, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    request = asks.request
    then = order[place[request] - np.minimum(back, position(asks)[request])]
    return products(truth, then, trace.items.astype(np.int64))


def _either(covered: np.ndarray, exact: F16, fill: Served) -> Served:
    rows = np.where(covered[:, None], exact, fill.rows)
    sources: U8 = np.where(covered, np.uint8(Source.DIRECT), fill.sources)
    return Served(rows, sources)
