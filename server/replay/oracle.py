"""The independent check: the same questions answered with plain dictionaries, no server code.

One model, unlimited capacity, no time between a miss and its write; age counts from the write and a
hit does not renew it. Failures are drawn per inference; a failed one writes nothing. A request that
waits and has nothing to fall back on tries again, as often as allowed and as its time suffices for.
"""

from typing import Any

import numpy as np

from predawn.server.replay.options import ReplayOptions
from predawn.server.traces import Trace
from predawn.server.traces_describe import TTLS_MS, direct_hit_rate

_WAIT_WINDOW_MS, _REFRESH_WINDOW_MS = 1.0, 10.0  # the batcher's defaults
_RANK_RESERVE_MS = 2.0  # of a request's time, as the pipeline keeps it


def oracle(trace: Trace, options: ReplayOptions) -> dict[str, Any]:
    """What a cache of these ages makes of the trace: shares of requests.

    hit_rate: at the published ttls, without failures. With a mode that computes on demand also
    direct_hit_rate, in_flight, fallbacks_per_request (the default vector) and retries_per_request
    under the options' ages, failures and retries, and the fallbacks of a server without store and
    without retries. in_flight: the part of the direct hits that comes so soon after its miss that a
    real server is still computing; it joins that compute instead, which saves the inference all the
    same. Sweeps (`batch`, `frozen`) have only hit_rate.
    """
    found: dict[str, Any] = {
        "hit_rate": {name: direct_hit_rate(trace, ttl) for name, ttl in TTLS_MS.items()}
    }
    if options.mode in ("ercache", "soap"):
        found |= _cached(trace, options, np.random.default_rng([options.seed, 2]))
    elif options.mode == "realtime":
        found |= {"direct_hit_rate": 0.0, "fallbacks_per_request": _all_fail(options)}
    if options.mode in ("ercache", "soap", "realtime"):
        found["fallbacks_per_request_without_store"] = options.failure_rate
    return found


def _cached(trace: Trace, options: ReplayOptions, rng: np.random.Generator) -> dict[str, float]:
    """Every request that finds no fresh entry computes: in `ercache` it waits and falls back to an
    older entry when that fails, in `soap` it is served the older entry at once. rng: one draw per
    inference, in their order; below the failure rate it fails."""
    ages, waits = options.ages(), options.mode == "ercache"
    written: dict[int, int] = {}
    hits = in_flight = fallbacks = retries = 0
    users = trace.user_indices()[1].tolist()
    for user, now in zip(users, trace.t_ms.tolist(), strict=True):
        age = now - written[user] if user in written else ages.failover_ttl_ms + 1
        if age <= ages.direct_ttl_ms:
            hits += 1
            in_flight += age <= _computing_ms(options)
            continue
        nothing = age > ages.failover_ttl_ms
        again = options.retries if waits and nothing else 0
        computed, in_time, repeats = _attempts(options, again, rng)
        retries += repeats
        if computed:
            written[user] = now
        if nothing and not (waits and in_time):
            fallbacks += 1
    return {
        "direct_hit_rate": hits / len(trace),
        "in_flight": in_flight / len(trace),
        "fallbacks_per_request": fallbacks / len(trace),
        "retries_per_request": retries / len(trace),
    }


def _attempts(
    options: ReplayOptions, retries: int, rng: np.random.Generator
) -> tuple[bool, bool, int]:
    """Tries until it succeeds, until `retries` are spent or until its time is over: whether it
    succeeded, whether that was in time, and how often it tried again."""
    each_ms, until_ms = _computing_ms(options), _waited_ms(options)
    repeats = 0
    while rng.random() < options.failure_rate:
        if repeats == retries or (repeats + 1) * each_ms >= until_ms:
            return False, False, repeats
        repeats += 1
    return True, (repeats + 1) * each_ms < until_ms, repeats


def _all_fail(options: ReplayOptions) -> float:
    """Chance that every attempt fails which ends in time."""
    each_ms, until_ms = _computing_ms(options), _waited_ms(options)
    in_time = sum((n + 1) * each_ms < until_ms for n in range(1 + options.retries))
    return options.failure_rate**in_time


def _computing_ms(options: ReplayOptions) -> float:
    """From a miss to its result, for a user alone in a batch."""
    window_ms = _REFRESH_WINDOW_MS if options.mode == "soap" else _WAIT_WINDOW_MS
    return window_ms + 1000 * options.cost.seconds(1)


def _waited_ms(options: ReplayOptions) -> float:
    """How long a request waits at most."""
    return min(options.wait_ms, options.timeout_ms - _RANK_RESERVE_MS)
