"""The simulated engine: a stated cost of inference, injected failures and hangs, in virtual time.

Invariant: the outcome of the n-th inference depends on the seed and n alone.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from predawn.server.engine import Computed
from predawn.server.replay.embeddings import Embeddings
from predawn.server.replay.options import ReplayOptions
from predawn.server.request import UserId

SNAPSHOT = 1


class SimEngine:
    """Implements `EmbedsUsers`. One batch at a time, as the batcher gives them."""

    def __init__(self, embeddings: Embeddings, options: ReplayOptions) -> None:
        self._embeddings = embeddings
        self._options = options
        self._failures, self._hangs = np.random.default_rng([options.seed, 1]).spawn(2)

    async def embed(self, model: str, users: Sequence[UserId]) -> Computed:
        """Embeds `users` as they are when the batch begins; the result comes after its cost."""
        options = self._options
        rows = self._embeddings.embed(users)
        took_s = options.cost.seconds(len(users))
        if options.hang_rate and self._hangs.random() < options.hang_rate:
            took_s = options.hang_s
        await asyncio.sleep(took_s)
        ok = self._failures.random(len(users)) >= options.failure_rate
        return Computed(rows, ok, SNAPSHOT, round(took_s * 1e9), "" if ok.all() else "injected")
