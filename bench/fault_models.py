"""Models for measuring the server itself: they cost nothing, or exactly what they are told to.

Bring-your-own factories: `factory = "predawn.bench.fault_models:user_model"`. The user model
hangs for as long as the file `hang_flag` exists, kills its process when it finds the file
`die_flag` (once: it removes it first), and takes `cost_ms` of CPU a batch.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np

from predawn.server.clock import Clock, SystemClock
from predawn.server.request import F32, RankBatch, UserBatch

_HANG_STEP_S = 0.01


class CheapUserModel:
    """Embeds a user as numbers made from its id and the length of its history."""

    def __init__(
        self, dim: int, cost_ms: float, hang_flag: str, die_flag: str, clock: Clock
    ) -> None:
        self._dim = dim
        self._cost_ns = round(cost_ms * 1e6)
        self._hang_flag = hang_flag
        self._die_flag = die_flag
        self._clock = clock

    @property
    def dim(self) -> int:
        return self._dim

    def embed(self, batch: UserBatch) -> F32:
        """float32 [B, dim]: value d of user u is (u mod 1009 + history length + d) / 1009."""
        self._hang()
        self._die()
        self._burn()
        base = (batch.users % np.uint64(1009)).astype(np.float32) + batch.lengths
        steps = np.arange(self._dim, dtype=np.float32)
        return ((base[:, None] + steps) / 1009).astype(np.float32)

    def _hang(self) -> None:
        while self._hang_flag and os.path.exists(self._hang_flag):
            time.sleep(_HANG_STEP_S)

    def _die(self) -> None:
        if self._die_flag and os.path.exists(self._die_flag):
            os.unlink(self._die_flag)
            os.kill(os.getpid(), signal.SIGKILL)

    def _burn(self) -> None:
        end = self._clock.monotonic_ns() + self._cost_ns
        while self._clock.monotonic_ns() < end:
            np.dot(np.ones(4096, np.float32), np.ones(4096, np.float32))


class CheapRanker:
    """Scores an item by its hash and the first value of the user's embedding."""

    tasks = ("click",)
    item_features: tuple[str, ...] = ()
    inline = True

    def score(self, batch: RankBatch) -> F32:
        """float32 [R, 1] in 0..1."""
        counts = np.diff(batch.offsets)
        user = np.repeat(batch.user[:, 0], counts)
        item = (batch.item_hashes % np.uint64(65_521)).astype(np.float32) / 65_521
        scores: F32 = ((item + user) % 1.0).astype(np.float32)[:, None]
        return scores


def user_model(
    snapshot: Path | None,
    dim: int = 64,
    cost_ms: float = 0.0,
    hang_flag: str = "",
    die_flag: str = "",
) -> CheapUserModel:
    """Factory of `CheapUserModel`; needs no snapshot."""
    return CheapUserModel(dim, cost_ms, hang_flag, die_flag, SystemClock())


def ranker(snapshot: Path | None) -> CheapRanker:
    """Factory of `CheapRanker`; needs no snapshot."""
    return CheapRanker()
