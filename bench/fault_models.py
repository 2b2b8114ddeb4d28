"""Models for measuring the server itself: they cost nothing, or exactly what they are told to.

Bring-your-own factories: `factory = "predawn.bench.fault_models:user_model"`. The user model
hangs for as long as the file `hang_flag` exists, kills its process when it finds the file
`die_flag` (once: it removes it first), and takes `cost_ms` of CPU a batch. The model of pairs takes
`pair_us` of CPU a pair and is in the trouble whose name the file `trouble` holds, before every
slice of its work: "hang", "die" (once), "fail" (it raises) or "slow".
"""

import os
import signal
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np

from predawn.server.clock import Clock, SystemClock
from predawn.server.request import F32, PairBatch, RankBatch, UserBatch

TROUBLES = ("hang", "die", "fail", "slow")
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
        burn(self._clock, self._cost_ns)


class CheapPairModel:
    """Embeds a pair as numbers made from its user's id, his history's length and the item."""

    def __init__(
        self, dim: int, pair_us: float, slice_pairs: int, slow_s: float, trouble: str, clock: Clock
    ) -> None:
        self._dim = dim
        self._pair_us = pair_us
        self._slice_pairs = slice_pairs
        self._slow_s = slow_s
        self._trouble = Path(trouble) if trouble else None
        self._clock = clock

    @property
    def dim(self) -> int:
        return self._dim

    def embed_pairs(self, batch: PairBatch) -> F32:
        """float32 [R, dim]: value d of a pair is ((user + item) mod 1009 + length + d) / 1009."""
        slices = self.pair_slices(batch)
        while True:
            try:
                next(slices)
            except StopIteration as end:
                rows: F32 = end.value
                return rows

    def pair_slices(self, batch: PairBatch) -> Generator[None, None, F32]:
        """As `embed_pairs`, `slice_pairs` at a time."""
        count = len(batch.item_hashes)
        for first in range(0, count, self._slice_pairs):
            self._meet_trouble()
            pairs = min(self._slice_pairs, count - first)
            burn(self._clock, round(self._pair_us * pairs * 1e3))
            yield
        of = np.repeat(np.arange(len(batch.users.users)), np.diff(batch.offsets))
        mixed = (batch.users.users[of] + batch.item_hashes) % np.uint64(1009)
        start = mixed.astype(np.float32) + batch.users.lengths[of]
        steps = np.arange(self._dim, dtype=np.float32)
        return ((start[:, None] + steps) / 1009).astype(np.float32)

    def _meet_trouble(self) -> None:
        while (trouble := self._now_in()) == "hang":
            time.sleep(_HANG_STEP_S)
        if trouble == "die" and self._trouble is not None:
            self._trouble.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "fail":
            raise RuntimeError("told to fail")
        if trouble == "slow":
            time.sleep(self._slow_s)

    def _now_in(self) -> str:
        try:
            return self._trouble.read_text(encoding="ascii") if self._trouble else ""
        except FileNotFoundError:
            return ""


def burn(clock: Clock, cost_ns: int) -> None:
    """Keeps a core busy for so long."""
    end = clock.monotonic_ns() + cost_ns
    while clock.monotonic_ns() < end:
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


def pair_model(
    snapshot: Path | None,
    dim: int = 64,
    pair_us: float = 0.0,
    slice_pairs: int = 16,
    slow_s: float = 0.2,
    trouble: str = "",
) -> CheapPairModel:
    """Factory of `CheapPairModel`; needs no snapshot."""
    return CheapPairModel(dim, pair_us, slice_pairs, slow_s, trouble, SystemClock())


def ranker(snapshot: Path | None) -> CheapRanker:
    """Factory of `CheapRanker`; needs no snapshot."""
    return CheapRanker()
