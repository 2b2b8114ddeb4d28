"""Labels for the rows of a served-feature log: what users did afterwards, from a trace.

Invariant: a label belongs to one impression: a row of the trace with the same user and item, not
before the impression, within a window after it, and before the same pair was logged again.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from predawn.server.models.training_data import Timeline
from predawn.server.request import F32, I64, UserId
from predawn.server.served_log_read import ServedRows
from predawn.server.traces import Trace

CLOCKS_APART_MS = 1_000
"""An event so long before the row counts as after it: a trace may have the time of the request,
the log that of its reply, and their clocks may differ."""

WithoutEvent = Literal["unknown", "negative"]


@dataclass(frozen=True, slots=True)
class Join:
    """window_ms: how long after an impression an event is still of it. without_event: what a shown
    candidate is of which the trace has no event in that time; one that was not shown is unknown."""

    window_ms: int
    without_event: WithoutEvent = "unknown"


def joined_labels(rows: ServedRows, trace: Trace, labels: F32, join: Join) -> F32:
    """float32 [R, tasks], NaN where unknown; the largest where there are several events. labels:
    float32 [rows of the trace, tasks], NaN where unknown."""
    logged, traced = _pairs(rows, trace)
    t_ms = np.repeat(rows.t_ms, rows.counts)
    events = Timeline(traced, np.repeat(trace.t_ms, np.diff(trace.offsets)))
    until_ms = np.minimum(t_ms + join.window_ms + 1, _again_ms(logged, t_ms))
    _, first = events.before(logged, t_ms - CLOCKS_APART_MS)
    _, stop = events.before(logged, until_ms)
    found = np.full((len(logged), labels.shape[1]), np.nan, np.float32)
    for step in range(int((stop - first).max(initial=0))):
        there = np.flatnonzero(first + step < stop)
        event = events.order[first[there] + step]
        found[there] = np.fmax(found[there], labels[event])
    if join.without_event == "negative":
        found[(stop <= first) & rows.shown] = 0
    return found


def _again_ms(pairs: I64, t_ms: I64) -> I64:
    """When the same pair was logged next, less the tolerance; far away where it was not."""
    order = np.lexsort((t_ms, pairs))
    again = np.full(len(pairs), np.iinfo(np.int64).max)
    same = pairs[order][1:] == pairs[order][:-1]
    later = t_ms[order][1:] - CLOCKS_APART_MS
    again[order[:-1]] = np.where(same, later, again[order[:-1]])
    return again


def _pairs(rows: ServedRows, trace: Trace) -> tuple[I64, I64]:
    """A number for each pair of user and item of the log's rows and of the trace's."""
    distinct, request_users = trace.user_indices()
    numbers: dict[UserId, int] = {user: number for number, user in enumerate(distinct)}
    unknown = len(distinct)
    users = np.array([numbers.get(user, unknown) for user in rows.users.tolist()], np.int64)
    items, item = np.unique(np.concatenate([rows.items, trace.items]), return_inverse=True)
    user = np.concatenate(
        [np.repeat(users, rows.counts), np.repeat(request_users, np.diff(trace.offsets))]
    )
    _, pair = np.unique(user * len(items) + item, return_inverse=True)
    return pair[: len(rows.items)].astype(np.int64), pair[len(rows.items) :].astype(np.int64)
