"""The batches that the models saw last: what a new version is tried on before it may serve.

Invariant: bounded, newest kept; batches are shared and never written to. The device's thread adds,
the thread that loads reads.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from predawn.server.request import F32, I64, PairBatch, RankBatch, UserBatch

_Rows = TypeVar("_Rows", PairBatch, RankBatch)

_BATCHES = 16  # of pairs and rankings, a name
_USERS = 2048  # most users kept a name: enough to align 512 dimensions well


@dataclass(frozen=True, slots=True)
class _Embedded:
    """A batch of users and what a version of the model made of them."""

    users: UserBatch
    rows: F32
    version: int


class Recent:
    """nobody: one user without a past, for a model that has seen nothing yet; batch_limit: most
    users in a batch."""

    def __init__(self, nobody: UserBatch, batch_limit: int) -> None:
        self._nobody = nobody
        self._batch_limit = batch_limit
        self._lock = threading.Lock()
        self._users: dict[str, deque[_Embedded]] = {}
        self._pairs: dict[str, deque[PairBatch]] = {}
        self._ranked: dict[str, deque[RankBatch]] = {}

    def saw_users(self, name: str, users: UserBatch, rows: F32, version: int) -> None:
        """A batch of users and their rows under `version` of the model."""
        if not len(rows):
            return
        with self._lock:
            kept = self._users.setdefault(name, deque())
            kept.append(_Embedded(users, rows, version))
            excess = sum(len(each.rows) for each in kept) - _USERS
            while excess > 0:
                excess -= len(kept.popleft().rows)

    def saw_pairs(self, name: str, batch: PairBatch) -> None:
        """A batch of a pair model."""
        if not len(batch.item_hashes):
            return
        with self._lock:
            self._pairs.setdefault(name, deque(maxlen=_BATCHES)).append(batch)

    def saw_ranking(self, name: str, batch: RankBatch) -> None:
        """A batch of a ranker."""
        with self._lock:
            self._ranked.setdefault(name, deque(maxlen=_BATCHES)).append(batch)

    def users(self, name: str) -> list[UserBatch]:
        """Batches of 1, a typical number and `batch_limit` users, made of those seen last."""
        seen = self._seen(name) or [_Embedded(self._nobody, _NO_ROWS, 0)]
        users = join_users([each.users for each in seen])
        known = len(users.users)
        typical = int(np.median([len(each.users.users) for each in seen]))
        sizes = sorted({1, typical, self._batch_limit})
        return [take_users(users, np.arange(size) % known) for size in sizes]

    def pairs(self, name: str) -> list[PairBatch]:
        """One pair, then the smallest, a typical and the largest of the batches seen last."""
        with self._lock:
            seen = list(self._pairs.get(name, ()))
        if not seen:
            nothing = np.ones(1, dtype=np.uint64)
            return [PairBatch(self._nobody, np.array([0, 1], dtype=np.int64), nothing)]
        return [_one_pair(seen[-1]), *_spread(seen)]

    def rankings(self, name: str) -> list[RankBatch]:
        """The smallest, a typical and the largest of the batches seen last."""
        with self._lock:
            return list(_spread(list(self._ranked.get(name, ()))))

    def embedded(self, name: str, version: int) -> tuple[UserBatch, F32]:
        """Users, each once, as `version` of the model saw them last, and their rows: what a newer
        version is aligned on."""
        seen = [each for each in self._seen(name) if each.version == version]
        if not seen:
            return take_users(self._nobody, np.zeros(0, dtype=np.int64)), _NO_ROWS
        users = join_users([each.users for each in reversed(seen)])  # newest first
        rows = np.concatenate([each.rows for each in reversed(seen)])
        _, first = np.unique(users.users, return_index=True)
        finite = np.isfinite(rows[first]).all(axis=1) & (users.lengths[first] > 0)
        return take_users(users, first[finite]), rows[first[finite]]

    def _seen(self, name: str) -> list[_Embedded]:
        with self._lock:
            return list(self._users.get(name, ()))


_NO_ROWS: F32 = np.zeros((0, 0), dtype=np.float32)


def take_users(batch: UserBatch, rows: I64) -> UserBatch:
    """Some users of a batch, in the order given. rows: int64 [n]."""
    return UserBatch(*(getattr(batch, each.name)[rows] for each in fields(UserBatch)))


def join_users(batches: Sequence[UserBatch]) -> UserBatch:
    """One batch of them all."""
    return UserBatch(
        *(
            np.concatenate([getattr(batch, each.name) for batch in batches])
            for each in fields(UserBatch)
        )
    )


def _one_pair(batch: PairBatch) -> PairBatch:
    user = int(np.searchsorted(batch.offsets, 0, side="right")) - 1
    return PairBatch(
        take_users(batch.users, np.array([user])),
        np.array([0, 1], dtype=np.int64),
        batch.item_hashes[:1],
    )


def _spread(seen: Sequence[_Rows]) -> Iterator[_Rows]:
    """Smallest, median and largest by rows, each once."""
    by_rows = sorted(seen, key=lambda batch: len(batch.item_hashes))
    chosen = {0, len(seen) // 2, len(seen) - 1} if seen else set[int]()
    return (by_rows[place] for place in sorted(chosen))
