"""A sink that keeps what a load did, as columns: one entry per answer, nothing thrown away."""

import re
from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from predawn.bench.load import Answer
from predawn.server.request import I64

OK = 200
_SOURCE = re.compile(rb'"source":\s*"([a-z_]+)"')


def sources_of(body: bytes) -> list[str]:
    """The sources named in a /v1/rank reply, one per user model."""
    return [found.decode() for found in _SOURCE.findall(body)]


@dataclass(slots=True)
class Recorder:
    """Columns in order of arrival. Times in ns; `latencies_ns` counts from the intended time."""

    tags: "array[int]" = field(default_factory=lambda: array("q"))
    intended: "array[int]" = field(default_factory=lambda: array("q"))
    sent: "array[int]" = field(default_factory=lambda: array("q"))
    received: "array[int]" = field(default_factory=lambda: array("q"))
    statuses: "array[int]" = field(default_factory=lambda: array("h"))
    timings: list[bytes] = field(default_factory=list[bytes])
    sources: Counter[str] = field(default_factory=Counter[str])
    degraded: int = 0

    def __call__(self, answer: Answer) -> None:
        self.tags.append(answer.tag)
        self.intended.append(answer.intended_ns)
        self.sent.append(answer.sent_ns)
        self.received.append(answer.received_ns)
        self.statuses.append(answer.status)
        self.timings.append(answer.timing)
        if answer.status == OK:
            self.sources.update(sources_of(answer.body))
            self.degraded += b'"degraded":true' in answer.body

    def __len__(self) -> int:
        return len(self.statuses)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """bool [n]: answered with 200."""
        ok: NDArray[np.bool_] = np.array(self.statuses, np.int64) == OK
        return ok

    def latencies_ns(self) -> I64:
        """int64 [answers with 200]: from the intended time of sending to the last byte."""
        took: I64 = np.array(self.received, np.int64) - np.array(self.intended, np.int64)
        return took[self.ok]

    def quantile_ms(self, q: float) -> float:
        """Latency at quantile q in 0..1, in ms; NaN when nothing was answered with 200."""
        latencies = self.latencies_ns()
        return float(np.quantile(latencies, q)) / 1e6 if len(latencies) else float("nan")

    def errors(self) -> dict[int, int]:
        """Answers by status, other than 200 (0: connection failed, -1: unanswered)."""
        return {s: n for s, n in sorted(Counter(self.statuses).items()) if s != OK}
