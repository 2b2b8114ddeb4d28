"""Requests around the swap of a user model, and what each is served and costs under a policy.

A recompute behind a request makes what the user's next request is served (SOAP). So the embedding
that lands between two requests of a user is of the new snapshot when the first came after the swap;
`number` counts how many of those a request has behind it: 1 is the first that feels the swap.

Invariant: embeddings go through the server's own table (`cache_table`): averaged, rounded to fp16,
read back.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.server.cache_place import FOREVER_MS, StorePlace, TableSpec
from predawn.server.cache_table import ModelTable
from predawn.server.models.contract import RankerModel, UserModel
from predawn.server.models.training_data import UserPast
from predawn.server.request import F32, I64, RankBatch, Source
from predawn.server.traces import EVENT_TYPES, Trace
from predawn.server.traces_data import jagged_rows

F64 = NDArray[np.float64]

_CHUNK = 4096
_SEED = bytes(range(32))


@dataclass(frozen=True, slots=True)
class Policy:
    """As in the config. aligned: of the new snapshot to the old; None: `average_over` 1."""

    name: str
    average_over: int = 1
    average_weight: float | None = None
    aligned: bool = False


@dataclass(frozen=True, slots=True)
class Losses:
    """Of some requests. loss: float64 [n], log losses summed over a request's candidates; rows:
    int64 [n]; clicks: how many of all candidates were clicked."""

    loss: F64
    rows: I64
    clicks: int

    @property
    def entropy(self) -> float:
        """Log loss of a ranker that knows the click rate alone."""
        rate = np.clip(self.clicks / self.rows.sum(), 1e-7, 1 - 1e-7)
        return float(-(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))

    @property
    def normalised(self) -> float:
        """Normalised entropy: 1 is no better than the click rate alone."""
        return float(self.loss.sum() / self.rows.sum() / self.entropy)


class Scene:
    """The requests of `trace` from `start_ms` to `end_ms`, a new snapshot at `swap_ms`.

    requests: int64 [n], numbers in the trace; previous: position of the same user's request
    before, -1 where there is none; number: int64 [n], see the module; seasoned: bool [n], whether
    an old embedding of the user had landed in time.
    """

    def __init__(self, trace: Trace, start_ms: int, swap_ms: int, end_ms: int, length: int) -> None:
        first, last = np.searchsorted(trace.t_ms, [start_ms, end_ms]).tolist()
        self._trace = trace
        self._past = UserPast(trace, EVENT_TYPES, length)
        self.requests: I64 = np.arange(first, last, dtype=np.int64)
        self._users = self._past.request_users[self.requests]
        self._order = np.argsort(self._users, kind="stable")
        self._turn = self._turns()
        self.previous = self._previous()
        new = trace.t_ms[self.requests] >= swap_ms
        self.number = self._counted(new)
        self.seasoned = self._turn > self.number

    def _turns(self) -> I64:
        """How many requests of its user each has before it in the scene."""
        _, first, counts = np.unique(
            self._users[self._order], return_index=True, return_counts=True
        )
        turn: I64 = np.empty(len(self.requests), dtype=np.int64)
        turn[self._order] = np.arange(len(turn)) - np.repeat(first, counts)
        return turn

    def _previous(self) -> I64:
        previous: I64 = np.full(len(self.requests), -1, dtype=np.int64)
        later = np.flatnonzero(self._turn[self._order])
        previous[self._order[later]] = self._order[later - 1]
        return previous

    def _counted(self, new: NDArray[np.bool_]) -> I64:
        number: I64 = np.zeros(len(new), dtype=np.int64)
        for at in self.rounds():
            behind = self.previous[at]
            number[at] = np.where(behind >= 0, number[behind] + new[behind], 0)
        return number

    def rounds(self) -> Iterator[I64]:
        """Positions of the users' first requests of the scene, of their second ones, ..."""
        for turn in range(int(self._turn.max(initial=-1)) + 1):
            yield np.flatnonzero(self._turn == turn)

    def raw(self, model: UserModel) -> F32:
        """float32 [n, dim]: what lands just before each request if `model` computes it."""
        times = self._trace.t_ms[self.requests]
        parts = [
            model.embed(self._past.batch(self._users[i : i + _CHUNK], times[i : i + _CHUNK]))
            for i in range(0, len(times), _CHUNK)
        ]
        return np.concatenate(parts)

    def latest_before(self, users: int) -> I64:
        """Positions of the last requests before the swap of the users last seen, at most so many:
        who is embedded by both snapshots to fit an alignment."""
        old = np.flatnonzero((self.number == 0) & (self._turn > 0))[::-1]
        _, newest = np.unique(self._users[old], return_index=True)
        return old[np.sort(newest)[:users]]

    def served(self, old: F32, new: F32, policy: Policy) -> F32:
        """float32 [n, dim] that each request reads. old, new: `raw` of both snapshots. Zeros for
        the first request of a user, which nothing had been computed for."""
        table = ModelTable(
            TableSpec(
                model="user",
                dim=old.shape[1],
                average_over=policy.average_over,
                dtype="fp16",
                capacity=max(64, 4 * len(np.unique(self._users))),
                default=np.zeros(old.shape[1], dtype=np.float32),
                average_weight=policy.average_weight,
            ),
            _SEED,
            StorePlace(),
        )
        rows = np.where((self.number > 0)[:, None], new, old)
        out = np.zeros_like(old)
        for turn, at in enumerate(self.rounds()):
            if turn == 0:
                continue
            users = self._users[at].tolist()
            table.land(users, rows[at], snapshot=1, now_ms=turn)
            table.flush()
            out[at] = table.read(users, turn, FOREVER_MS).rows
        table.close()
        return out

    def losses(self, ranker: RankerModel, at: I64, served: F32) -> Losses:
        """Log losses of the ranker's first task at some positions. served: float32 [n, dim] of the
        whole scene."""
        clicks = self._trace.labels[ranker.tasks[0]]
        parts = [
            self._some(ranker, at[i : i + _CHUNK], served, clicks)
            for i in range(0, len(at), _CHUNK)
        ]
        loss, rows, clicked = (np.concatenate(each) for each in zip(*parts, strict=True))
        return Losses(loss, rows, int(clicked.sum()))

    def _some(self, ranker: RankerModel, at: I64, served: F32, clicks: F32) -> tuple[F64, I64, F64]:
        trace, requests = self._trace, self.requests[at]
        counts = np.diff(trace.offsets)
        rows = jagged_rows(counts, requests)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[requests])])
        sources = np.full((len(at), 1), Source.DIRECT, np.uint8)
        batch = RankBatch(
            served[at], sources, offsets, trace.items[rows], trace.item_features[rows]
        )
        chance = np.clip(ranker.score(batch)[:, 0].astype(np.float64), 1e-7, 1 - 1e-7)
        clicked = clicks[rows].astype(np.float64)
        loss = -(clicked * np.log(chance) + (1 - clicked) * np.log(1 - chance))
        starts = offsets[:-1]
        return np.add.reduceat(loss, starts), counts[requests], np.add.reduceat(clicked, starts)
