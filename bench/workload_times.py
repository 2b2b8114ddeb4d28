"""When users come: the session law of the calibrated workload (reference/workload.md section 2).

52 % of the gaps between a user's requests are within 1 min and 76 % within 10 min, the two points
that ERCache (arXiv 2410.06497) publishes. All users are stepped together, one session a round.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.server.request import I64

F64 = NDArray[np.float64]

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
WARM_UP_S = 3 * DAY_S
SESSION_GAP_S = 1800.0
_INTRA_MU, _INTRA_SIGMA = 3.50, 1.30
_BETWEEN_MU, _BETWEEN_SIGMA = 9.55, 1.21
_WINDOW_H = (24.0, 48.0, 72.0, 168.0, 720.0)
_WINDOW_P = (0.710, 0.750, 0.757, 0.765, 0.770)
_DIURNAL = 0.6
_PEAK_HOUR = 20.0
# Geometric group sizes of mean m give a compound Poisson process of dispersion 2 m - 1.
_DISPERSION = {"none": 1.0, "mild": 1.39, "severe": 13.2}
_BURST_REACH_S = 10.0
_BURST_SQUEEZE = 0.02  # of the gaps inside a burst


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Requests in user-major order. user: int64 [n], 0-based; t_s: float64 [n] from the start of
    the trace, ascending within a user; negative in the warm-up."""

    user: I64
    t_s: F64


def continue_probability(hours: float) -> float:
    """Probability that a session goes on. The law has .77; a window of so many hours cuts long
    gaps off, so a shorter session makes up for it (fitted: 52 / 76 % of the gaps seen in the
    window are within 1 / 10 min; below a day that cannot be held)."""
    return float(np.interp(np.log(hours), np.log(_WINDOW_H), _WINDOW_P))


def arrivals(
    users: int, hours: float, rng: np.random.Generator, sigma: float, keep_s: float
) -> Arrivals:
    """Request times of independent users; of the warm-up only the last `keep_s` are kept."""
    activity = np.exp(sigma * rng.standard_normal(users) - sigma**2 / 2)
    proceed = continue_probability(hours)
    end = hours * HOUR_S
    now = np.full(users, -WARM_UP_S)
    alive = np.arange(users)
    found: list[tuple[I64, F64]] = []
    while len(alive):
        now[alive] += _between(activity[alive], rng)
        alive = alive[now[alive] < end]
        begun = alive[rng.random(len(alive)) < _acceptance(now[alive])]
        owner, times = _sessions(now[begun], proceed, rng)
        found.append((begun[owner], times))
        now[begun] = np.maximum.reduceat(times, np.flatnonzero(np.diff(owner, prepend=-1)))
    user = np.concatenate([part for part, _ in found])
    t_s = np.concatenate([part for _, part in found])
    kept = (t_s >= -keep_s) & (t_s < end)
    user, t_s = user[kept], t_s[kept]
    order = np.lexsort((t_s, user))
    return Arrivals(user[order], t_s[order])


def _between(activity: F64, rng: np.random.Generator) -> F64:
    """Gaps to the next session; what the diurnal curve rejects is made up for by its factor."""

    def draw(who: F64) -> F64:
        gaps = np.exp(_BETWEEN_MU + _BETWEEN_SIGMA * rng.standard_normal(len(who)))
        return np.asarray(gaps / who / (1 + _DIURNAL))

    gaps = draw(activity)
    while len(again := np.flatnonzero(gaps <= SESSION_GAP_S)):
        gaps[again] = draw(activity[again])
    return gaps


def _acceptance(t_s: F64) -> F64:
    """Probability that a session may start at a time of day."""
    hour = t_s / HOUR_S % 24
    swing = _DIURNAL * np.cos(2 * np.pi * (hour - _PEAK_HOUR) / 24)
    return np.asarray((1 + swing) / (1 + _DIURNAL))


def _sessions(starts: F64, proceed: float, rng: np.random.Generator) -> tuple[I64, F64]:
    """Times of all requests of sessions that begin at `starts`: (session number, time)."""
    lengths = rng.geometric(1 - proceed, len(starts))
    owner = np.repeat(np.arange(len(starts)), lengths)

    def draw(count: int) -> F64:
        return np.exp(_INTRA_MU + _INTRA_SIGMA * rng.standard_normal(count))

    gaps = draw(len(owner))
    while len(again := np.flatnonzero(gaps > SESSION_GAP_S)):
        gaps[again] = draw(len(again))
    first = np.cumsum(lengths) - lengths
    gaps[first] = 0.0
    passed = np.cumsum(gaps)
    return owner, starts[owner] + passed - passed[first][owner]


def with_bursts(times: Arrivals, profile: str, rng: np.random.Generator) -> Arrivals:
    """Pulls neighbouring requests together until the counts per second have the dispersion of a
    real service (Azure LLM 2023: conversation 1.39, code 13.2). No request moves by more than 10 s,
    so users keep their gaps; a trace of few users cannot be made as bursty as one of many."""
    mean_size = (_DISPERSION[profile] + 1) / 2
    if mean_size == 1.0:
        return times
    order = np.argsort(times.t_s, kind="stable")
    t_s = times.t_s[order]
    starts = rng.random(len(t_s)) < 1 / mean_size
    starts[:1] = True
    anchor = t_s[np.maximum.accumulate(np.where(starts, np.arange(len(t_s)), 0))]
    moved = np.empty_like(t_s)
    after = t_s - anchor
    moved[order] = np.where(after <= _BURST_REACH_S, anchor + _BURST_SQUEEZE * after, t_s)
    return Arrivals(times.user, moved)
