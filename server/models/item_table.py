"""What is known of every item seen in training: a sorted table, read by binary search.

Invariant: `hashes` is strictly increasing; position n stands for every item that is not in it, with
the prior as its statistics and no embedding of its own.
"""

from dataclasses import dataclass

import numpy as np

from predawn.csrc import _layers
from predawn.server.request import F32, I64, U64

SMOOTHING = 4.0  # an item's mean counts as if this many rows at the prior had been seen before
_SALT = 0xD6E8FEB86659FD93


@dataclass(frozen=True, slots=True)
class ItemTable:
    """hashes: uint64 [n]; sums: float32 [n, tasks] label sums; counts: float32 [n] rows;
    prior: float32 [tasks] mean label over all rows."""

    hashes: U64
    sums: F32
    counts: F32
    prior: F32

    def find(self, items: U64) -> I64:
        """Position of each item, n where unseen. int64 [R]."""
        at: I64 = np.empty(len(items), dtype=np.int64)
        _layers.sorted_positions(self.hashes, items, at)
        return at

    def features(self) -> F32:
        """`item_features` of every position, the unseen one last. float32 [n + 1, 2 tasks + 2]."""
        sums = np.vstack([self.sums, np.zeros_like(self.prior)])
        return item_statistics(sums, np.append(self.counts, np.float32(0)), self.prior)


def item_statistics(sums: F32, counts: F32, prior: F32) -> F32:
    """Smoothed means less the prior, their log-odds less the prior's, log count, seen.

    sums: float32 [R, tasks]; counts: float32 [R]; prior: float32 [tasks] -> [R, 2 tasks + 2].
    A row without observations is all zeros.
    """
    safe = np.clip(prior, 1e-4, 1 - 1e-4)
    mean = (sums + SMOOTHING * safe) / (counts[:, None] + SMOOTHING)
    odds = np.log(mean / (1 - mean)) - np.log(safe / (1 - safe))
    seen = (counts > 0)[:, None]
    columns = [mean - safe, odds, np.log1p(counts)[:, None], seen]
    return np.concatenate(columns, axis=1, dtype=np.float32, casting="same_kind")


def statistics_width(tasks: int) -> int:
    """Columns of `item_statistics`."""
    return 2 * tasks + 2


def embedding_rows(items: U64, rows: int) -> I64:
    """Row of a hashed embedding table, 1 .. rows (0 is kept for "no item"). int64, any shape."""
    at: I64 = np.empty(items.shape, dtype=np.int64)
    _layers.hashed_rows(np.ascontiguousarray(items).reshape(-1), _SALT, rows, at.reshape(-1))
    return at


def count_items(items: U64, labels: F32) -> ItemTable:
    """The table of a training set. items: uint64 [R]; labels: float32 [R, tasks]."""
    hashes, where = np.unique(items, return_inverse=True)
    sums = np.stack(
        [np.bincount(where, column, minlength=len(hashes)) for column in labels.T], axis=1
    )
    counts = np.bincount(where, minlength=len(hashes))
    prior = labels.mean(axis=0, dtype=np.float64)
    return ItemTable(
        hashes, sums.astype(np.float32), counts.astype(np.float32), prior.astype(np.float32)
    )
