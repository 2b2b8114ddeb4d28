"""The simulated engine of a foundation model: a stated cost, failures and hangs, in virtual time.

Invariant: the outcome of the n-th batch depends on the seed and n alone. It is a device of its own:
user models do not wait for it.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from predawn.server.clock import Clock
from predawn.server.engine import Computed
from predawn.server.errors import InferenceError
from predawn.server.replay.engine import SNAPSHOT
from predawn.server.replay.pair_embeddings import PairEmbeddings
from predawn.server.replay.pair_options import PairOptions
from predawn.server.request import UserItems

_OUTCOMES = 3  # stream of the seed, beside those of the user models' engine


class SimPairEngine:
    """Implements `EmbedsPairs`. done: what came out and when, in milliseconds of wall time."""

    def __init__(
        self,
        embeddings: PairEmbeddings,
        options: PairOptions,
        hang_s: float,
        clock: Clock,
        seed: int,
    ) -> None:
        self._embeddings = embeddings
        self._options = options
        self._hang_s = hang_s
        self._clock = clock
        self._failures, self._hangs = np.random.default_rng([seed, _OUTCOMES]).spawn(2)
        self.done: list[tuple[int, Sequence[UserItems]]] = []
        self.batches = self.failed = 0
        self.busy_ns = 0

    async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
        """Embeds `wanted` as it is when the batch begins; the result comes after its cost."""
        options = self._options
        rows = self._embeddings.embed(wanted)
        took_s = options.cost.seconds(len(wanted), len(rows))
        if options.hang_rate and self._hangs.random() < options.hang_rate:
            took_s = self._hang_s
        await asyncio.sleep(took_s)
        self.batches += 1
        self.busy_ns += round(took_s * 1e9)
        if options.failure_rate and self._failures.random() < options.failure_rate:
            self.failed += 1
            raise InferenceError(model, "injected")
        self.done.append((self._clock.wall_ms(), wanted))
        return Computed(rows, np.ones(len(rows), dtype=np.bool_), SNAPSHOT, round(took_s * 1e9))
