"""The independent check: the same questions answered with plain dictionaries, no server code.

One model, unlimited capacity, no time between a miss and its write; age counts from the write and a
hit does not renew it. Failures are drawn per inference; a failed one writes nothing.
"""

from typing import Any

import numpy as np

from predawn.server.replay.options import ReplayOptions
from predawn.server.traces import Trace
from predawn.server.traces_describe import TTLS_MS, direct_hit_rate

_WAIT_WINDOW_MS, _REFRESH_WINDOW_MS = 1.0, 10.0  # the batcher's defaults


def oracle(trace: Trace, options: ReplayOptions) -> dict[str, Any]:
    """What a cache of these ages makes of the trace: shares of requests.

    hit_rate: at the published ttls, without failures. With a mode that computes on demand also
    direct_hit_rate, in_flight and fallbacks_per_request (the default vector) under the options'
    ages and failures, and the fallbacks without a store. in_flight: the part of the direct hits
    that comes so soon after its miss that a real server is still computing; it joins that compute
    instead, which saves the inference all the same. Sweeps (`batch`, `frozen`) have only hit_rate.
    """
    found: dict[str, Any] = {
        "hit_rate": {name: direct_hit_rate(trace, ttl) for name, ttl in TTLS_MS.items()}
    }
    if options.mode in ("ercache", "soap"):
        found |= _cached(trace, options)
    elif options.mode == "realtime":
        found |= {"direct_hit_rate": 0.0, "fallbacks_per_request": options.failure_rate}
    if options.mode in ("ercache", "soap", "realtime"):
        found["fallbacks_per_request_without_store"] = options.failure_rate
    return found


def _cached(trace: Trace, options: ReplayOptions) -> dict[str, float]:
    """Every request that finds no fresh entry computes: in `ercache` it waits and falls back to an
    older entry when that fails, in `soap` it is served the older entry at once."""
    ages = options.ages()
    window_ms = _WAIT_WINDOW_MS if options.mode == "ercache" else _REFRESH_WINDOW_MS
    computing_ms = window_ms + 1000 * options.cost.seconds(1)
    rng = np.random.default_rng([options.seed, 2])
    written: dict[int, int] = {}
    hits = in_flight = fallbacks = 0
    users = trace.user_indices()[1].tolist()
    for user, now in zip(users, trace.t_ms.tolist(), strict=True):
        age = now - written[user] if user in written else ages.failover_ttl_ms + 1
        if age <= ages.direct_ttl_ms:
            hits += 1
            in_flight += age <= computing_ms
            continue
        failed = rng.random() < options.failure_rate
        if not failed:
            written[user] = now
        if age > ages.failover_ttl_ms and (failed or options.mode == "soap"):
            fallbacks += 1
    return {
        "direct_hit_rate": hits / len(trace),
        "in_flight": in_flight / len(trace),
        "fallbacks_per_request": fallbacks / len(trace),
    }
