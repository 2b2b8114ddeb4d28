"""Where the time of a request goes, from stamps of both ends on the clock they share.

The server's timing header (asked for with `x-predawn-timing: 1`; `server.http.rank`) has points in
time, `recv_ns` and `send_ns`, and the ns of each stage between. Every row of the breakdown but the
residual is measured on its own; the residual is what they leave of the measured latency.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.bench.recorder import Recorder
from predawn.server.request import I64

SERVER_STAGES = ("decode", "lookup", "wait", "rank", "encode")
STAGES = ("client lag", "network in", *SERVER_STAGES, "network out")
RESIDUAL_MAX = 0.05
"""Largest share of the mean latency that the stages may leave unexplained."""

_PAIR = re.compile(r"([a-z_]+)=(-?\d+)")


def parse_timing(header: bytes) -> dict[str, int]:
    """ "recv_ns=12,decode=3,send_ns=40" -> {"recv_ns": 12, ...}."""
    return {name: int(value) for name, value in _PAIR.findall(header.decode("latin-1"))}


@dataclass(frozen=True, slots=True)
class Breakdown:
    """n timed requests. stages_ns: int64 [n, len(STAGES)]; latency_ns, tags: int64 [n]."""

    stages_ns: I64
    latency_ns: I64
    tags: I64

    def __len__(self) -> int:
        return len(self.latency_ns)

    @property
    def residual_ns(self) -> I64:
        """int64 [n]: measured latency less the sum of the stages."""
        residual: I64 = self.latency_ns - self.stages_ns.sum(axis=1)
        return residual

    @property
    def residual_share(self) -> float:
        """Mean residual as a share of the mean latency."""
        return float(self.residual_ns.mean() / self.latency_ns.mean())

    def slowest(self, count: int) -> I64:
        """Positions of the slowest requests, slowest first."""
        order: I64 = np.argsort(-self.latency_ns, kind="stable")[:count].astype(np.int64)
        return order


def breakdown(recorder: Recorder) -> Breakdown:
    """Of the requests answered with 200 and a timing header that has all stamps."""
    kept: list[list[int]] = []
    for i, header in enumerate(recorder.timings):
        stamps = parse_timing(header) if recorder.statuses[i] == 200 else {}
        if "recv_ns" in stamps and "send_ns" in stamps:
            kept.append(_row(recorder, i, stamps))
    columns = np.array(kept, np.int64).reshape(-1, len(STAGES) + 2)
    return Breakdown(columns[:, :-2], columns[:, -2], columns[:, -1])


def _row(recorder: Recorder, i: int, stamps: dict[str, int]) -> list[int]:
    intended, sent, received = recorder.intended[i], recorder.sent[i], recorder.received[i]
    server = [stamps.get(name, 0) for name in SERVER_STAGES]
    ends = (sent - intended, stamps["recv_ns"] - sent), (received - stamps["send_ns"],)
    return [*ends[0], *server, *ends[1], received - intended, recorder.tags[i]]


@dataclass(frozen=True, slots=True)
class StageFigures:
    """One line of the table, in microseconds; share of the mean latency."""

    name: str
    mean_us: float
    p50_us: float
    p99_us: float
    share: float


def figures(found: Breakdown) -> list[StageFigures]:
    """Every stage, then their sum, the residual and the measured latency."""
    mean = float(found.latency_ns.mean())
    lines = [_figures(name, found.stages_ns[:, i], mean) for i, name in enumerate(STAGES)]
    return [
        *lines,
        _figures("sum of the stages", found.stages_ns.sum(axis=1), mean),
        _figures("residual", found.residual_ns, mean),
        _figures("measured latency", found.latency_ns, mean),
    ]


def _figures(name: str, values: NDArray[np.int64], whole: float) -> StageFigures:
    p50, p99 = np.quantile(values, (0.5, 0.99)) / 1e3
    mean = float(values.mean())
    return StageFigures(name, mean / 1e3, float(p50), float(p99), mean / whole)


def slowest_rows(found: Breakdown, count: int) -> list[dict[str, float]]:
    """The slowest requests with their stages, in microseconds."""
    return [_named(found, int(i)) for i in found.slowest(count)]


def _named(found: Breakdown, i: int) -> dict[str, float]:
    values: Sequence[float] = (found.stages_ns[i] / 1e3).tolist()
    row = {"request": float(found.tags[i]), "latency": float(found.latency_ns[i]) / 1e3}
    row.update(zip(STAGES, values, strict=True))
    row["residual"] = float(found.residual_ns[i]) / 1e3
    return row
