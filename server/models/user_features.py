"""What the user tower reads of a `UserBatch`: table slots of its bags, and dense numbers.

A pure function of the history, row by row, in integers and float64: the same history gives the
same features in training, in serving and in a batch of any size.

Bags (T event types; 2 T + 6 tables, 16 for the five default types), each of up to `bag` entries,
newest first, item hashes hashed again per table:
  2t, 2t + 1   items of type t: the newest `bag`, and the `bag` before them
  2T           newest events: type bits x log2 of their age
  2T + 1       newest events: item x type bits
  2T + 2       newest events: type bits of two neighbours
  2T + 3       the user's id
  2T + 4       hour of the newest event
  2T + 5       lifetime counts of the first `bag` types, in half-powers of two
Dense: log counts, smoothed lifetime rates, rates over the newest 1, 2, 4, 8, 16, 32 events, log
ages at the same depths, hour on the circle, attributes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.server.models.item_table import embedding_rows
from predawn.server.models.mixing import mix
from predawn.server.request import I64, U64, UserBatch

F64 = NDArray[np.float64]

WINDOWS = (1, 2, 4, 8, 16, 32)
_SMOOTHING = (2.0, 10.0)
_SPECIAL_TABLES = 6
_GOLDEN = 0x9E3779B97F4A7C15
_AGE_EDGES_MS = 1000 * 2 ** np.arange(24, dtype=np.int64)  # 1 s .. 97 days


@dataclass(frozen=True, slots=True)
class FeatureShape:
    """What a tower was built for. types, attributes: columns of `UserBatch`; rows: per table;
    item_rows: of the item table that tower and ranker share in training."""

    types: int
    attributes: int
    rows: int = 10_000
    bag: int = 4
    item_rows: int = 16_384

    @property
    def tables(self) -> int:
        """Number of bags, one table each."""
        return 2 * self.types + _SPECIAL_TABLES

    @property
    def dense(self) -> int:
        """Number of dense columns."""
        per_type = 1 + len(_SMOOTHING) + len(WINDOWS)
        return self.types * per_type + len(WINDOWS) + 3 + self.attributes


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """slots: int64 [B, tables, bag], 0 where empty, else row of the stacked tables
    (1 + table * rows + hash); dense: float64 [B, shape.dense]; items: int64 [B, H] row of the
    shared item table, newest first, 0 where empty; bits: bool [B, H, types]."""

    slots: I64
    dense: F64
    items: I64
    bits: NDArray[np.bool_]

    def take(self, rows: I64) -> "UserFeatures":
        """The features of some users."""
        return UserFeatures(self.slots[rows], self.dense[rows], self.items[rows], self.bits[rows])


def user_features(batch: UserBatch, shape: FeatureShape, prior: F64) -> UserFeatures:
    """prior: float64 [types], the rate of each type per event in training.

    ValueError when the batch has other types or attributes than the shape.
    """
    types, attributes = batch.counts.shape[1], batch.attributes.shape[1]
    if (types, attributes) != (shape.types, shape.attributes):
        raise ValueError(
            f"history has {types} types and {attributes} attributes, the model was trained on "
            f"{shape.types} and {shape.attributes}"
        )
    bits = _bits(batch, types)
    used = np.arange(batch.items.shape[1]) < batch.lengths[:, None]
    return UserFeatures(
        slots=_slots(batch, bits, shape),
        dense=_dense(batch, bits, prior),
        items=np.where(used, embedding_rows(batch.items, shape.item_rows), 0),
        bits=np.moveaxis(bits, 0, 2),
    )


def _bits(batch: UserBatch, types: int) -> NDArray[np.bool_]:
    """bool [T, B, H]: event h of user b has type t."""
    used = np.arange(batch.types.shape[1]) < batch.lengths[:, None]
    return np.stack([used & ((batch.types >> t) & 1 > 0) for t in range(types)])


def _slots(batch: UserBatch, bits: NDArray[np.bool_], shape: FeatureShape) -> I64:
    users, bag, types = len(batch.users), shape.bag, shape.types
    slots = np.zeros((users, shape.tables, bag), np.int64)
    for t in range(types):
        newest, there = _newest_of(batch.items, bits[t], 2 * bag)
        slots[:, 2 * t] = _slot(newest[:, :bag], there[:, :bag], 2 * t, shape.rows)
        slots[:, 2 * t + 1] = _slot(newest[:, bag:], there[:, bag:], 2 * t + 1, shape.rows)
    columns = _event_columns(batch, bag) | _user_columns(batch, bag)
    for special, (values, there) in columns.items():
        table = 2 * types + special
        slots[:, table] = _slot(values, there, table, shape.rows)
    return slots


def _newest_of(items: U64, mask: NDArray[np.bool_], count: int) -> tuple[U64, NDArray[np.bool_]]:
    """The newest `count` items under the mask: values and presence, [B, count]."""
    where = np.argsort(~mask, axis=1, kind="stable")[:, :count]
    values = _padded(np.take_along_axis(items, where, axis=1), count)
    return values, _padded(np.take_along_axis(mask, where, axis=1), count)


def _event_columns(batch: UserBatch, bag: int) -> dict[int, tuple[U64, NDArray[np.bool_]]]:
    """Special tables 0..2: the newest `bag` events, crossed."""
    there = _padded(np.arange(batch.items.shape[1]) < batch.lengths[:, None], bag)
    bits = _padded(batch.types, bag + 1).astype(np.uint64)
    items = _padded(batch.items, bag)
    ages = np.searchsorted(_AGE_EDGES_MS, _padded(batch.ages_ms, bag), side="right")
    patterns = bits[:, :bag] << np.uint64(16)
    return {
        0: (patterns | ages.astype(np.uint64), there),
        1: (mix(items) ^ patterns, there),
        2: (patterns | bits[:, 1:], there),
    }


def _user_columns(batch: UserBatch, bag: int) -> dict[int, tuple[U64, NDArray[np.bool_]]]:
    """Special tables 3..5: one entry for the user and the hour, one for each of `bag` counts."""
    known = batch.lengths > 0
    one = _padded(known[:, None], bag)
    hour = np.floor(batch.hour).astype(np.uint64)[:, None]
    counts = batch.counts[:, :bag].astype(np.float64)
    steps = np.floor(2 * np.log2(1 + counts)).astype(np.uint64)
    names = np.arange(counts.shape[1], dtype=np.uint64) << np.uint64(32)
    return {
        3: (_padded(batch.users[:, None], bag), one),
        4: (_padded(hour, bag), one),
        5: (_padded(names | steps, bag), _padded((counts >= 0) & known[:, None], bag)),
    }


def _padded(columns: NDArray[np.generic], count: int) -> NDArray:  # type: ignore[type-arg]
    """The first `count` columns, zeros appended where there are fewer."""
    missing = count - columns.shape[1]
    kept = columns[:, :count]
    return np.pad(kept, ((0, 0), (0, missing))) if missing > 0 else kept


def _slot(values: U64, there: NDArray[np.bool_], table: int, rows: int) -> I64:
    salt = np.uint64(_GOLDEN * (table + 1) % 2**64)
    row = (mix(values ^ salt) % np.uint64(rows)).astype(np.int64)
    return np.where(there, 1 + table * rows + row, 0)


def _dense(batch: UserBatch, bits: NDArray[np.bool_], prior: F64) -> F64:
    counts = batch.counts.astype(np.float64)
    shown = counts.max(axis=1, keepdims=True)
    columns = [np.log1p(counts)]
    columns += [(counts + k * prior) / (shown + k) for k in _SMOOTHING]
    running = np.cumsum(bits, axis=2, dtype=np.float64)
    used = batch.lengths[:, None].astype(np.float64)
    for window in WINDOWS:
        seen = running[:, :, min(window, running.shape[2]) - 1].T
        columns.append((seen + prior) / (np.minimum(used, window) + 1))
    depths = [min(window, batch.ages_ms.shape[1]) - 1 for window in WINDOWS]
    ages_s = batch.ages_ms[:, depths] / 1000.0
    columns.append(np.where(used > depths, np.log1p(ages_s), 0.0))
    angle = batch.hour[:, None].astype(np.float64) * (np.pi / 12)
    columns += [np.log1p(used), np.sin(angle), np.cos(angle), batch.attributes.astype(np.float64)]
    return np.concatenate(columns, axis=1)
