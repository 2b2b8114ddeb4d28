"""The rival of serving embeddings: distillation. A light student learns from the foundation model's
click probabilities and ranks without it.

Invariant: a row is scored by a student that has seen earlier rows only. The student is a logistic
factorisation machine on user and item, trained as the trace goes by: fresher than any recurring
training, with the learning rate at which it did best on the generated workload.
"""

import numpy as np

from predawn.server.replay.loss import sigmoid
from predawn.server.replay.pair_asks import Asks
from predawn.server.request import F32, I64

_BATCH = 256  # rows: half a minute of 1,500 users
_DIM = 16
_RATE, _BIAS_RATE = 0.3, 0.01
_FIRST, _SEEN = 0.1, 0.01  # scale of the first vectors, of the first step
_RATE_OF_GIVEN = 0.1


def distilled(asks: Asks, soft_labels: F32, vectors: F32 | None, seed: int) -> F32:
    """Logits float32 [rows] of the student. soft_labels: float32 [rows]; vectors: float32 [n, d],
    the user's at each request, given to the student; None: it learns one per user itself."""
    rate = _RATE if vectors is None else _RATE_OF_GIVEN
    rng = np.random.default_rng(seed)
    users = _Table(int(asks.user.max()) + 1, _DIM, _FIRST, rate, rng)
    dim = _DIM if vectors is None else vectors.shape[1]
    items = _Table(asks.items, dim, _FIRST if vectors is None else _FIRST / 10, rate, rng)
    biases = _Table(asks.items, 1, 0.0, rate, rng)
    rate_of_clicks = float(soft_labels[:_BATCH].mean())
    constant = float(np.log(rate_of_clicks / (1 - rate_of_clicks)))
    logits = np.empty(len(asks.item), dtype=np.float32)
    for begin in range(0, len(logits), _BATCH):
        part = slice(begin, begin + _BATCH)
        request, item = asks.request[part], asks.item[part]
        who = asks.user[request]
        own = users.rows[who] if vectors is None else vectors[request]
        theirs = items.rows[item]
        logits[part] = constant + biases.rows[item, 0] + np.einsum("rd,rd->r", own, theirs)
        chance = sigmoid(logits[part].astype(np.float64)).astype(np.float32)
        error: F32 = chance - soft_labels[part]
        items.learn(item, error[:, None] * own)
        biases.learn(item, error[:, None])
        if vectors is None:
            users.learn(who, error[:, None] * theirs)
        constant -= _BIAS_RATE * float(error.mean())
    return logits


class _Table:
    """Learned vectors by number: each step of Adagrad is as long as its past steps allow."""

    def __init__(
        self, rows: int, dim: int, scale: float, rate: float, rng: np.random.Generator
    ) -> None:
        self.rows: F32 = rng.standard_normal((rows, dim), dtype=np.float32) * np.float32(scale)
        self._seen: F32 = np.full((rows, dim), _SEEN, dtype=np.float32)
        self._rate = np.float32(rate)

    def learn(self, index: I64, gradient: F32) -> None:
        """One step against `gradient` [n, dim] of the rows `index` [n], repeats summed."""
        distinct, at = np.unique(index, return_inverse=True)
        total = np.zeros((len(distinct), self.rows.shape[1]), dtype=np.float32)
        np.add.at(total, at, gradient)
        self._seen[distinct] += total * total
        self.rows[distinct] -= self._rate * total / np.sqrt(self._seen[distinct])
