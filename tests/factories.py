"""Models for tests, reachable as "factories:name" from a configuration."""

from pathlib import Path

import numpy as np

from predawn.server.request import F32, PairBatch, RankBatch, Source, UserBatch

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


class PairCountingModel:
    """Embeds a pair as [user as models see it, item, events of the user], modulo 1000; fails for
    item 13."""

    dim = 3

    def embed_pairs(self, batch: PairBatch) -> F32:
        if (batch.item_hashes == 13).any():
            raise RuntimeError("item 13")
        row_user = np.arange(len(batch.users.users)).repeat(np.diff(batch.offsets))
        columns = (batch.users.users[row_user], batch.item_hashes)
        out = np.stack([each % np.uint64(1000) for each in columns], axis=1).astype(np.float32)
        events = batch.users.counts.sum(axis=1, keepdims=True)
        return np.concatenate([out, events[row_user]], axis=1)


class PairRanker:
    """Scores a candidate .9 where the model of pairs knows it, else .1; all of it is checked."""

    tasks = ("click",)
    item_features: tuple[str, ...] = ()
    inline = True

    def score(self, batch: RankBatch) -> F32:
        n = len(batch.item_hashes)
        if batch.pairs.shape != (n, 3) or batch.pair_sources.shape != (n, 1):
            raise ValueError(f"got pairs {batch.pairs.shape}, {batch.pair_sources.shape}")
        known = batch.pair_sources[:, 0] == Source.DIRECT
        items = (batch.item_hashes % np.uint64(1000)).astype(np.float32)
        if (batch.pairs[known, 1] != items[known]).any():
            raise ValueError("an embedding of another item")
        return np.where(known, 0.9, 0.1).astype(np.float32).reshape(n, 1)


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


def pair_counting(snapshot: Path | None) -> PairCountingModel:
    return PairCountingModel()


def pair_ranker(snapshot: Path | None) -> PairRanker:
    return PairRanker()


def sum_ranker(snapshot: Path | None) -> SumRanker:
    return SumRanker()


def off_loop_ranker(snapshot: Path | None) -> OffLoopRanker:
    return OffLoopRanker()


def wrong_shape(snapshot: Path | None) -> WrongShape:
    return WrongShape()


def one_number_per_user(snapshot: Path | None) -> object:
    """A function of the batch, as a model may be, but with [B] instead of [B, dim]."""
    return lambda batch: batch.counts.sum(axis=1)


class Misbehaving(CountingModel):
    """Does as it should for users without a past, so in every trial; for others `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def embed(self, batch: UserBatch) -> F32:
        rows = super().embed(batch)
        if not batch.counts.any():
            return rows
        match self.how:
            case "raises":
                raise RuntimeError("weights are gone")
            case "exits":
                raise SystemExit(3)
            case "shape":
                return rows[:, :2]
            case "dtype":
                return rows.astype(np.float64)  # type: ignore[return-value]
            case _:
                return np.full_like(rows, np.nan)


def misbehaving(snapshot: Path | None, how: str) -> Misbehaving:
    """See `Misbehaving`."""
    return Misbehaving(how)


class FailingRanker(SumRanker):
    """Fails for items of requests; not for the item 0 of the trial at start."""

    def score(self, batch: RankBatch) -> F32:
        if batch.item_hashes.any():
            raise RuntimeError("no weights")
        return super().score(batch)


def failing_ranker(snapshot: Path | None) -> FailingRanker:
    """See `FailingRanker`."""
    return FailingRanker()
