"""Traces and clocks that the tests of the replay share."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from predawn.bench.workload import WorkloadOptions, generate
from predawn.server.replay import ReplayOptions, ReplayReport, replay
from predawn.server.traces import Trace
from predawn.server.traces_data import Block, assemble


class TickingClock:
    """Advances by a second whenever it is looked at."""

    def __init__(self) -> None:
        self._now_ns = 0

    def monotonic_ns(self) -> int:
        self._now_ns += 1_000_000_000
        return self._now_ns

    def wall_ms(self) -> int:
        return self.monotonic_ns() // 1_000_000


def visits(times: Sequence[tuple[int, int]]) -> Trace:
    """A trace of (t_ms, user) with one item each, in the order given."""
    block = Block(
        t_ms=np.array([t for t, _ in times], dtype=np.int64),
        users=np.array([user for _, user in times], dtype=np.uint64),
        counts=np.ones(len(times), dtype=np.int64),
        item_ids=np.ones(len(times), dtype=np.uint64),
        clicked=None,
        labels={},
        features={},
    )
    return assemble([block])


@cache
def day() -> Trace:
    """A day and a half of 150 users, with truth: about 1,900 requests."""
    return generate(WorkloadOptions(users=150, hours=36, seed=5))


def replayed(trace: Trace, **options: Any) -> ReplayReport:
    """The report under `options`."""
    return replay(trace, ReplayOptions(**options), TickingClock())
