"""What a trace says about caching, by plain dictionaries: gaps, hit rates, repeats.

These are the definitions of the calibrated workload (one model, unlimited capacity, age counts from
the write and a hit does not renew it, a first access is a miss). Replays are checked against them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from predawn.server.request import F32, I64
from predawn.server.traces_data import Trace

MINUTE_MS = 60_000
GAPS_MS = {
    "10s": 10_000,
    "1m": MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "10m": 10 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "60m": 60 * MINUTE_MS,
    "6h": 360 * MINUTE_MS,
    "1d": 1440 * MINUTE_MS,
}
TTLS_MS = {"1m": MINUTE_MS, "5m": 5 * MINUTE_MS, "10m": 10 * MINUTE_MS, "60m": 60 * MINUTE_MS}


def gaps_ms(trace: Trace) -> I64:
    """Time between consecutive requests of the same user, in no particular order. int64 [g]."""
    _, users = trace.user_indices()
    order = np.lexsort((np.arange(len(trace)), users))
    same = np.diff(users[order]) == 0
    return np.asarray(np.diff(trace.t_ms[order])[same], dtype=np.int64)


def gap_cdf(trace: Trace, at_most_ms: Sequence[int]) -> F32:
    """Share of `gaps_ms` that are at most each bound (0 when there are none)."""
    gaps = np.sort(gaps_ms(trace))
    below = np.searchsorted(gaps, np.asarray(at_most_ms), side="right")
    return (below / max(len(gaps), 1)).astype(np.float32)


def direct_hit_rate(trace: Trace, ttl_ms: int) -> float:
    """Share of requests that find an entry of age <= ttl_ms, where every miss writes one."""
    _, users = trace.user_indices()
    written: dict[int, int] = {}
    hits = 0
    for user, now in zip(users.tolist(), trace.t_ms.tolist(), strict=True):
        at = written.get(user)
        if at is not None and now - at <= ttl_ms:
            hits += 1
        else:
            written[user] = now
    return hits / max(len(trace), 1)


def repeat_rate(trace: Trace) -> float:
    """Share of candidates that were shown to the same user in an earlier request."""
    _, users = trace.user_indices()
    _, items = np.unique(np.asarray(trace.item_ids), return_inverse=True)
    counts = np.diff(trace.offsets)
    pairs = np.repeat(users, counts) * (int(items.max(initial=0)) + 1) + items
    # A list holds no item twice, so every occurrence but a pair's first repeats an earlier request.
    return 1.0 - len(np.unique(pairs)) / len(pairs) if len(pairs) else 0.0


def dispersion(trace: Trace) -> float:
    """Index of dispersion of the requests per second: variance / mean over the whole trace (1 for
    independent arrivals, 1.4 and 13 in a mildly and a severely bursty real service)."""
    if not len(trace):
        return 0.0
    counts = np.bincount((trace.t_ms - trace.t_ms[0]) // 1000)
    return float(counts.var() / counts.mean())


def describe(trace: Trace) -> dict[str, Any]:
    """The figures that the calibrated workload is accepted by, as one JSON object."""
    users, _ = trace.user_indices()
    span_ms = int(trace.t_ms[-1] - trace.t_ms[0]) if len(trace) else 0
    cdf = gap_cdf(trace, list(GAPS_MS.values()))
    return {
        "requests": len(trace),
        "users": len(users),
        "rows": trace.rows,
        "items": len(np.unique(trace.items)),
        "clicks": int(trace.clicked.sum()),
        "hours": span_ms / 3_600_000,
        "candidates_mean": trace.rows / max(len(trace), 1),
        "dispersion_1s": round(dispersion(trace), 3),
        "gap_cdf": {name: round(float(cdf[i]), 4) for i, name in enumerate(GAPS_MS)},
        "hit_rate_oracle": {
            name: round(direct_hit_rate(trace, ttl), 4) for name, ttl in TTLS_MS.items()
        },
        "repeat_rate": round(repeat_rate(trace), 4),
    }
