"""Models for tests, reachable as "factories:name" from a configuration."""

from pathlib import Path

import numpy as np

from predawn.server.request import F32, RankBatch, UserBatch

DIM = 4


class CountingModel:
    """Embeds a user as [events seen, 1, 0, 0]; counts its calls."""

    dim = DIM

    def __init__(self) -> None:
        self.rows = 0

    def embed(self, batch: UserBatch) -> F32:
        self.rows += len(batch.users)
        out = np.zeros((len(batch.users), DIM), dtype=np.float32)
        out[:, 0] = batch.counts.sum(axis=1)
        out[:, 1] = 1
        return out


class FailsOnce(CountingModel):
    """Fails on its third call: the first after the trials at start."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def embed(self, batch: UserBatch) -> F32:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("broken")
        return super().embed(batch)


class SumRanker:
    """Scores a candidate by the sum of the user's values and the candidate's id, squashed."""

    tasks = ("click", "like")
    item_features: tuple[str, ...] = ()
    inline = True

    def score(self, batch: RankBatch) -> F32:
        if batch.user.shape[1] != DIM:
            raise ValueError(f"got {batch.user.shape[1]} user values, expected {DIM}")
        user = batch.user.sum(axis=1).repeat(np.diff(batch.offsets))
        logit = user + batch.item_hashes.astype(np.float64) % 7
        click = (1 / (1 + np.exp(-logit))).astype(np.float32)
        return np.stack([click, click / 2], axis=1)


class OffLoopRanker(SumRanker):
    """The same, on the engine's thread."""

    inline = False


class WrongShape:
    """Breaks its contract on every call."""

    dim = DIM

    def embed(self, batch: UserBatch) -> F32:
        return np.zeros((len(batch.users), DIM + 1), dtype=np.float32)


def counting(snapshot: Path | None) -> CountingModel:
    return CountingModel()


def fails_once(snapshot: Path | None) -> FailsOnce:
    return FailsOnce()


def sum_ranker(snapshot: Path | None) -> SumRanker:
    return SumRanker()


def off_loop_ranker(snapshot: Path | None) -> OffLoopRanker:
    return OffLoopRanker()


def wrong_shape(snapshot: Path | None) -> WrongShape:
    return WrongShape()


def one_number_per_user(snapshot: Path | None) -> object:
    """A function of the batch, as a model may be, but with [B] instead of [B, dim]."""
    return lambda batch: batch.counts.sum(axis=1)
