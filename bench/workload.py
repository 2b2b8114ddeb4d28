"""The calibrated synthetic workload: a trace with the timing, repeats and clicks of real logs, and
the hidden variables behind it (reference/workload.md sections 2 to 5).

Invariant: the same arguments give the same trace, byte for byte.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from predawn.bench.workload_labels import Labels, draw_labels
from predawn.bench.workload_lists import ADS, FEED, Lists, Pool, draw_lists
from predawn.bench.workload_times import HOUR_S, Arrivals, arrivals, with_bursts
from predawn.server.errors import ConfigError
from predawn.server.traces import Trace, Truth
from predawn.server.traces_data import Block, assemble, jagged_rows

START_MS = 1_767_571_200_000
"""Monday, 5 January 2026, 00:00 UTC: hour 0 of every generated trace."""

# Lists copy from lists up to 6 h old: so much of the warm-up gets lists, the rest only times.
_LIST_WARM_UP_S = 6 * HOUR_S


@dataclass(frozen=True, slots=True)
class WorkloadOptions:
    """users, hours: size of the trace; seed: of everything random.

    ctr: "list" (one click per list of about 11) or "ads" (0.5 %); candidates: lists 1, 10 or 50
    times as long (about 10, 100, 500; above 1 from the ads pool of 50,000 live items);
    bursts: "none", "mild" or "severe" (dispersion of the counts per second 1, 1.4 or 13);
    activity_sigma: spread of the users' activity (1.0; 1.4 is a skewed profile);
    drift_half_life_h: hours in which half of what a user wants now is forgotten.
    """

    users: int
    hours: float
    seed: int = 0
    ctr: Literal["list", "ads"] = "list"
    candidates: Literal[1, 10, 50] = 1
    bursts: Literal["none", "mild", "severe"] = "none"
    activity_sigma: float = 1.0
    drift_half_life_h: float = 6.0

    def __post_init__(self) -> None:
        for name in ("users", "hours", "drift_half_life_h"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, f"must be above 0, got {getattr(self, name)}")
        for name in ("activity_sigma", "seed"):
            if not getattr(self, name) >= 0:
                raise ConfigError(name, f"must not be negative, got {getattr(self, name)}")


def generate(options: WorkloadOptions) -> Trace:
    """The trace of `options`, with its truth. Users are 1..users, items 1..m; ConfigError when
    nobody comes in so short a time."""
    streams = np.random.default_rng(options.seed).spawn(5)
    sigma = options.activity_sigma
    times = arrivals(options.users, options.hours, streams[0], sigma, _LIST_WARM_UP_S)
    times = _in_milliseconds(with_bursts(times, options.bursts, streams[1]))
    if not (times.t_s >= 0).any():
        reason = f"{options.users} users make no request in {options.hours} hours; take more"
        raise ConfigError("users", reason)
    shape = FEED if options.candidates == 1 else ADS
    pool = Pool(shape, -_LIST_WARM_UP_S, options.hours * HOUR_S, streams[2])
    lists = draw_lists(times, options.candidates, pool, streams[3])
    labels = draw_labels(
        times, lists, pool.items, options.ctr, options.drift_half_life_h, streams[4]
    )
    return _assembled(times, lists, labels)


def _in_milliseconds(times: Arrivals) -> Arrivals:
    """Whole milliseconds, as the trace will have them, before anything depends on the gaps."""
    return Arrivals(times.user, np.floor(times.t_s * 1000) / 1000)


def _assembled(times: Arrivals, lists: Lists, labels: Labels) -> Trace:
    """The requests from hour 0 on in time order, items renumbered to those that were shown."""
    t_ms = np.rint(times.t_s * 1000).astype(np.int64)
    kept = np.flatnonzero(t_ms >= 0)
    order = kept[np.argsort(t_ms[kept], kind="stable")]
    counts = np.diff(lists.offsets)
    rows = jagged_rows(counts, order)
    items = lists.items[rows]
    shown = np.flatnonzero(np.bincount(items, minlength=len(labels.item_vectors)))
    number = np.zeros(len(labels.item_vectors), dtype=np.uint64)
    number[shown] = np.arange(1, len(shown) + 1)
    block = Block(
        t_ms=START_MS + t_ms[order],
        users=(times.user[order] + 1).astype(np.uint64),
        counts=counts[order],
        item_ids=number[items],
        clicked=labels.clicked[rows],
        labels={},
        features={},
    )
    nothing = np.zeros((1, labels.item_vectors.shape[1]), dtype=np.float32)
    truth = Truth(
        user_vectors=labels.user_vectors[order],
        item_vectors=np.concatenate([nothing, labels.item_vectors[shown]]),
        scale=labels.scale,
        bias=labels.bias,
    )
    return replace(assemble([block]), truth=truth)
