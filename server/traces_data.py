"""What a trace is in memory: jagged columns of ranking requests, ordered by time.

Invariant of `Trace`: `t_ms` never goes back, every request has at least one item and no item twice,
request i owns the rows offsets[i]:offsets[i + 1] of all row-shaped arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from predawn.csrc._core import stable_hash
from predawn.server.errors import PredawnError
from predawn.server.request import F32, I64, U64, UserId

Ids: TypeAlias = U64 | list[str]
"""Ids of one kind, as they stand in the log: unsigned 64-bit integers or strings."""

Bools = NDArray[np.bool_]


class TraceError(PredawnError):
    """A trace cannot be used. `line` is its 1-based line or row (0: the whole file)."""

    def __init__(self, path: str | Path, line: int, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}" if line else f"{path}: {reason}")
        self.path = str(path)
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Truth:
    """The generator's hidden variables: P(click on v by u) = sigmoid(scale * u . v + bias).

    user_vectors: float16 [n requests, d], the user at the time of that request;
    item_vectors: float32 [m, d], row = item id.
    """

    user_vectors: NDArray[np.float16]
    item_vectors: F32
    scale: float
    bias: float


@dataclass(frozen=True, slots=True)
class Trace:
    """n requests with `rows` candidates in total.

    t_ms: int64 [n] since the epoch; users: ids [n]; offsets: int64 [n + 1];
    items: uint64 [rows] as models see them (integer ids as they are, strings by `stable_hash`);
    item_ids: [rows] as the log has them; clicked: bool [rows];
    labels: name -> float32 [rows], NaN where unknown ("click" is `clicked`; absent when the log has
    none); item_features: float32 [rows, F], 0 where unknown.
    """

    t_ms: I64
    users: Ids
    offsets: I64
    items: U64
    item_ids: Ids
    clicked: Bools
    labels: dict[str, F32]
    item_features: F32
    item_feature_names: tuple[str, ...] = ()
    truth: Truth | None = None

    def __len__(self) -> int:
        return len(self.t_ms)

    @property
    def rows(self) -> int:
        """Candidates of all requests together."""
        return len(self.items)

    def user(self, request: int) -> UserId:
        """Id of the user of request number `request`."""
        users = self.users
        return users[request] if isinstance(users, list) else int(users[request])

    def user_indices(self) -> tuple[list[UserId], I64]:
        """Distinct users, and for every request the position of its user among them."""
        distinct, inverse = np.unique(np.asarray(self.users), return_inverse=True)
        return distinct.tolist(), inverse.astype(np.int64)

    def slice(self, start: int, stop: int) -> "Trace":
        """Requests start..stop - 1, with their rows and truth."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        truth = self.truth
        if truth is not None:
            truth = replace(truth, user_vectors=truth.user_vectors[start:stop])
        return Trace(
            t_ms=self.t_ms[start:stop],
            users=self.users[start:stop],
            offsets=self.offsets[start : stop + 1] - first,
            items=self.items[first:last],
            item_ids=self.item_ids[first:last],
            clicked=self.clicked[first:last],
            labels={name: values[first:last] for name, values in self.labels.items()},
            item_features=self.item_features[first:last],
            item_feature_names=self.item_feature_names,
            truth=truth,
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A run of requests as a reader found it. `clicked` is None where the log has no clicks.

    t_ms: int64 [n]; users: ids [n]; counts: int64 [n] items of each; item_ids: ids [rows];
    labels, features: name -> float32 [rows].
    """

    t_ms: I64
    users: Ids
    counts: I64
    item_ids: Ids
    clicked: Bools | None
    labels: Mapping[str, F32]
    features: Mapping[str, F32]


def hash_ids(ids: Ids) -> U64:
    """Ids as models see them: integers as they are, strings by `stable_hash`. uint64 [n]."""
    if not isinstance(ids, list):
        return ids
    hashes = {text: stable_hash(text.encode()) for text in set(ids)}
    return np.array([hashes[text] for text in ids], dtype=np.uint64)


def concat_ids(parts: Sequence[Ids]) -> Ids:
    """Joins ids of one kind."""
    first = parts[0]
    if isinstance(first, list):
        return [text for part in parts for text in part]
    return np.concatenate([np.asarray(part, dtype=np.uint64) for part in parts])


def take_ids(ids: Ids, index: I64) -> Ids:
    """ids[index]."""
    return [ids[i] for i in index.tolist()] if isinstance(ids, list) else ids[index]


def jagged_rows(counts: I64, order: I64) -> I64:
    """Row numbers of the requests `order`, request after request. int64 [sum counts[order]]."""
    starts = np.cumsum(counts) - counts
    taken = counts[order]
    offsets = np.cumsum(taken) - taken
    return np.repeat(starts[order] - offsets, taken) + np.arange(int(taken.sum()), dtype=np.int64)


def in_time_order(block: Block) -> Block:
    """The block sorted by time; requests of equal time keep their order."""
    order = np.argsort(block.t_ms, kind="stable").astype(np.int64)
    rows = jagged_rows(block.counts, order)
    return Block(
        t_ms=block.t_ms[order],
        users=take_ids(block.users, order),
        counts=block.counts[order],
        item_ids=take_ids(block.item_ids, rows),
        clicked=None if block.clicked is None else block.clicked[rows],
        labels={name: values[rows] for name, values in block.labels.items()},
        features={name: values[rows] for name, values in block.features.items()},
    )


def assemble(blocks: Sequence[Block]) -> Trace:
    """One trace from blocks that follow each other in time and agree in their kinds of ids."""
    counts = np.concatenate([block.counts for block in blocks])
    item_ids = concat_ids([block.item_ids for block in blocks])
    clicked = np.concatenate([_clicks(block) for block in blocks])
    labels = _joined([block.labels for block in blocks], blocks, np.nan)
    labels = {name: values for name, values in labels.items() if not np.isnan(values).all()}
    if any(block.clicked is not None for block in blocks):
        labels = {"click": clicked.astype(np.float32)} | labels
    features = _joined([block.features for block in blocks], blocks, 0.0)
    columns = np.zeros((len(item_ids), len(features)), dtype=np.float32)
    for number, values in enumerate(features.values()):
        columns[:, number] = values
    return Trace(
        t_ms=np.concatenate([block.t_ms for block in blocks]),
        users=concat_ids([block.users for block in blocks]),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        items=hash_ids(item_ids),
        item_ids=item_ids,
        clicked=clicked,
        labels=labels,
        item_features=columns,
        item_feature_names=tuple(features),
    )


def _clicks(block: Block) -> Bools:
    if block.clicked is None:
        return np.zeros(len(block.item_ids), dtype=np.bool_)
    return block.clicked


def _joined(
    columns: Sequence[Mapping[str, F32]], blocks: Sequence[Block], absent: float
) -> dict[str, F32]:
    """Each named column over all blocks, `absent` where a block lacks it."""
    names = dict.fromkeys(name for column in columns for name in column)
    return {
        name: np.concatenate(
            [
                column.get(name, np.full(len(block.item_ids), absent, dtype=np.float32))
                for column, block in zip(columns, blocks, strict=True)
            ]
        )
        for name in names
    }
