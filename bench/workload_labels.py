"""Why users click: latent vectors with exact click probabilities (reference/workload.md section 4).

P(click on v by u) = sigmoid(scale * u . v + bias). A user is a lasting part and a part that drifts
with a half-life of hours and takes a small step towards every clicked item, so that an embedding
of a minute ago is as good as new and one of a day ago is clearly worse.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.bench.workload_lists import Lists, rounds, slots_of
from predawn.bench.workload_times import HOUR_S, Arrivals
from predawn.server.request import F32, I64

DIM = 16
CTR = {"list": 1 / 11, "ads": 0.005}
"""Base click rates: one click per list of about 11, or an ad's (Open Bandit: .46-.69 %)."""

_SCALE = 1.5
_LASTING = 0.4  # share of the user's variance that never drifts
_CLICK_STEP = 0.02


@dataclass(frozen=True, slots=True)
class Labels:
    """clicked: bool [rows]; user_vectors: float16 [n, DIM] at the time of each request."""

    clicked: NDArray[np.bool_]
    user_vectors: NDArray[np.float16]
    item_vectors: F32
    scale: float
    bias: float


def draw_labels(
    times: Arrivals,
    lists: Lists,
    items: int,
    ctr: str,
    half_life_h: float,
    rng: np.random.Generator,
) -> Labels:
    """Clicks of all requests, in each user's order of time."""
    item_vectors = (rng.standard_normal((items, DIM)) / np.sqrt(DIM)).astype(np.float32)
    users = int(times.user.max(initial=-1)) + 1
    lasting = rng.standard_normal((users, DIM), dtype=np.float32) * np.float32(_LASTING**0.5)
    drifting = rng.standard_normal((users, DIM), dtype=np.float32)
    kept = np.float32((1 - _LASTING) ** 0.5)
    labels = Labels(
        clicked=np.zeros(len(lists.items), dtype=np.bool_),
        user_vectors=np.zeros((len(times.t_s), DIM), dtype=np.float16),
        item_vectors=item_vectors,
        scale=_SCALE,
        bias=_bias(CTR[ctr], rng),
    )
    for k, requests in rounds(times):
        who = times.user[requests]
        if k:
            gap_h = (times.t_s[requests] - times.t_s[requests - 1]) / HOUR_S
            drifting[who] = _drifted(drifting[who], gap_h / half_life_h, rng)
        labels.user_vectors[requests] = lasting[who] + kept * drifting[who]
        drifting[who] += _click(labels, lists, requests, drifting[who], rng)
    return labels


def _bias(ctr: float, rng: np.random.Generator) -> float:
    """The bias at which the mean click probability over random pairs is `ctr` (bisection)."""
    affinity = rng.standard_normal((20_000, DIM)) * rng.standard_normal((20_000, DIM))
    logits = _SCALE * affinity.sum(axis=1) / np.sqrt(DIM)
    low, high = -30.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        if sigmoid(logits + middle).mean() < ctr:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) in float64."""
    return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


def _drifted(vectors: F32, half_lives: NDArray[np.float64], rng: np.random.Generator) -> F32:
    """Ornstein-Uhlenbeck step: the variance stays, the memory halves every half-life."""
    kept = np.exp2(-half_lives).astype(np.float32)[:, None]
    noise = rng.standard_normal(vectors.shape, dtype=np.float32)
    return np.asarray(kept * vectors + np.sqrt(1 - kept**2) * noise, dtype=np.float32)


def _click(
    labels: Labels, lists: Lists, requests: I64, drifting: F32, rng: np.random.Generator
) -> F32:
    """Draws the clicks of one round; returns each user's step towards what was clicked."""
    request, rows = slots_of(lists.offsets, requests)
    owner = np.repeat(np.arange(len(requests)), np.diff(lists.offsets)[requests])
    vectors = labels.item_vectors[lists.items[rows]]
    # The vectors as stored (float16): whoever reads the truth gets the same probability.
    users = labels.user_vectors[request].astype(np.float32)
    affinity = np.einsum("rd,rd->r", users, vectors)
    chance = sigmoid(labels.scale * affinity + labels.bias)
    hit = np.flatnonzero(rng.random(len(rows)) < chance)
    labels.clicked[rows[hit]] = True
    return _step(drifting, owner[hit], vectors[hit])


def _step(drifting: F32, owner: I64, clicked: F32) -> F32:
    """A fiftieth of the way to each clicked item, one after the other: for n clicks at once the
    share 1 - .98 ** n of the way to their mean, so that long lists do not overshoot."""
    total = np.zeros_like(drifting)
    np.add.at(total, owner, clicked)
    clicks = np.bincount(owner, minlength=len(drifting))[:, None].astype(np.float32)
    mean = total * np.float32(np.sqrt(DIM)) / np.maximum(clicks, 1)
    share = 1 - np.float32(1 - _CLICK_STEP) ** clicks
    return np.asarray(share * (mean - drifting), dtype=np.float32)
