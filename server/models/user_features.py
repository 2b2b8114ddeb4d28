"""What the user tower reads of a `UserBatch`: table slots of its bags, and dense numbers.

A pure function of the history, row by row, in integers and float64: the same history gives the
same features in training, in serving and in a batch of any size.

Bags, one table each, of up to `bag` entries, newest first, hashed again per table; T event types:
  per type t         `type_crosses` crosses of its events, each over `type_windows` windows of
                     `bag` entries: the newest, those before them, ...
  of all events      `event_crosses` crosses, each over `event_windows` windows
  of the user        `user_columns` columns
The crosses are listed in `user_crosses`. By default 2 T + 6 tables, 16 for the five default types.
Dense: log counts, smoothed lifetime rates, rates over the newest 1, 2, 4, 8, 16, 32 events, log
ages at the same depths, hour on the circle, attributes.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predawn.server.models.item_table import embedding_rows
from predawn.server.models.mixing import mix
from predawn.server.models.user_crosses import (
    EVENT_CROSSES,
    TYPE_CROSSES,
    newest_events,
    padded,
    user_columns,
)
from predawn.server.request import I64, U64, UserBatch

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class FeatureShape:
    """What a tower was built for. types, attributes: columns of `UserBatch`; rows: per table;
    item_rows: of the item table that tower and ranker share in training; windows: of the newest
    events that rates are taken over; smoothing: events that a prior counts for in lifetime rates;
    the others: see the module."""

    types: int
    attributes: int
    rows: int = 10_000
    bag: int = 4
    item_rows: int = 16_384
    type_crosses: int = 1
    type_windows: int = 2
    event_crosses: int = 3
    event_windows: int = 1
    user_columns: int = 3
    windows: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    smoothing: tuple[float, ...] = (2.0, 10.0)

    @property
    def tables(self) -> int:
        """Number of bags, one table each."""
        of_types = self.types * self.type_crosses * self.type_windows
        return of_types + self.event_crosses * self.event_windows + self.user_columns

    @property
    def dense(self) -> int:
        """Number of dense columns."""
        per_type = 1 + len(self.smoothing) + len(self.windows)
        return self.types * per_type + len(self.windows) + 3 + self.attributes


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """slots: int64 [B, tables, bag], 0 where empty, else row of the stacked tables
    (1 + table * rows + hash); dense: float64 [B, shape.dense]; items: int64 [B, H] row of the
    shared item table, newest first, 0 where empty; bits: bool [B, H, types]."""

    slots: I64
    dense: F64
    items: I64
    bits: Bools

    def take(self, rows: I64) -> "UserFeatures":
        """The features of some users."""
        return UserFeatures(self.slots[rows], self.dense[rows], self.items[rows], self.bits[rows])


def shortened(batch: UserBatch, count: int) -> UserBatch:
    """The batch as a history of at most `count` events shows it."""
    if batch.items.shape[1] <= count:
        return batch
    columns = {name: getattr(batch, name)[:, :count] for name in ("items", "types", "ages_ms")}
    return replace(batch, lengths=np.minimum(batch.lengths, np.int32(count)), **columns)


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
        dense=_dense(batch, bits, shape, prior),
        items=np.where(used, embedding_rows(batch.items, shape.item_rows), 0),
        bits=np.moveaxis(bits, 0, 2),
    )


def _bits(batch: UserBatch, types: int) -> Bools:
    """bool [T, B, H]: event h of user b has type t."""
    used = np.arange(batch.types.shape[1]) < batch.lengths[:, None]
    return np.stack([used & ((batch.types >> t) & 1 > 0) for t in range(types)])


def _slots(batch: UserBatch, bits: Bools, shape: FeatureShape) -> I64:
    parts = [_type_bags(batch, bits, shape), _event_bags(batch, shape)]
    own = user_columns(batch, shape.bag)[: shape.user_columns]
    parts.append((np.stack([v for v, _ in own], axis=1), np.stack([t for _, t in own], axis=1)))
    values = np.concatenate([part for part, _ in parts], axis=1)
    there = np.concatenate([part for _, part in parts], axis=1)
    tables = np.arange(shape.tables, dtype=np.int64)[:, None]
    salts = np.uint64(_GOLDEN) * (tables.astype(np.uint64) + np.uint64(1))
    rows = (mix(values ^ salts) % np.uint64(shape.rows)).astype(np.int64)
    return np.where(there, 1 + tables * shape.rows + rows, 0)


def _type_bags(batch: UserBatch, bits: Bools, shape: FeatureShape) -> tuple[U64, Bools]:
    """Values and presence [B, types * type_crosses * type_windows, bag]."""
    types, users, length = bits.shape
    crosses, count = shape.type_crosses, shape.type_windows * shape.bag
    events, _ = newest_events(batch, length)
    newest = np.argsort(~bits, axis=2, kind="stable")[:, :, :count]
    row = np.arange(users)[:, None]
    found = [cross(events)[row, newest] for cross in TYPE_CROSSES[:crosses]]
    values = padded(np.stack(found, axis=1), count)  # [T, crosses, B, count]
    there = padded(np.take_along_axis(bits, newest, axis=2), count)[:, None]
    shaped = (types, crosses, users, shape.type_windows, shape.bag)
    return _tables_second(values, shaped), _tables_second(there.repeat(crosses, axis=1), shaped)


def _tables_second(columns: NDArray, shaped: tuple[int, ...]) -> NDArray:  # type: ignore[type-arg]
    """[T, crosses, B, windows * bag] -> [B, T * crosses * windows, bag]."""
    return columns.reshape(shaped).transpose(2, 0, 1, 3, 4).reshape(shaped[2], -1, shaped[4])


def _event_bags(batch: UserBatch, shape: FeatureShape) -> tuple[U64, Bools]:
    """Values and presence [B, event_crosses * event_windows, bag]."""
    events, there = newest_events(batch, shape.event_windows * shape.bag)
    values = np.stack([cross(events) for cross in EVENT_CROSSES[: shape.event_crosses]], axis=1)
    present = there[:, None].repeat(shape.event_crosses, axis=1)
    users = len(batch.users)
    return values.reshape(users, -1, shape.bag), present.reshape(users, -1, shape.bag)


def _dense(batch: UserBatch, bits: Bools, shape: FeatureShape, prior: F64) -> F64:
    users = len(batch.users)
    counts = batch.counts.astype(np.float64)
    shown = counts.max(axis=1)[:, None, None]
    known = np.array(shape.smoothing)[:, None]
    lifetime = (counts[:, None] + known * prior) / (shown + known)
    windows = np.array(shape.windows)
    used = batch.lengths[:, None].astype(np.float64)
    running = np.cumsum(bits, axis=2, dtype=np.float64)
    seen = running[:, :, np.minimum(windows, running.shape[2]) - 1].transpose(1, 2, 0)
    recent = (seen + prior) / (np.minimum(used, windows) + 1)[:, :, None]
    depths = np.minimum(windows, batch.ages_ms.shape[1]) - 1
    ages_s = batch.ages_ms[:, depths] / 1000.0
    angle = batch.hour[:, None].astype(np.float64) * (np.pi / 12)
    columns = (
        np.log1p(counts),
        lifetime.reshape(users, -1),
        recent.reshape(users, -1),
        np.where(used > depths, np.log1p(ages_s), 0.0),
        np.log1p(used),
        np.sin(angle),
        np.cos(angle),
        batch.attributes.astype(np.float64),
    )
    return np.concatenate(columns, axis=1)
