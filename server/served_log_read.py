"""Reads a served-feature log back: what one ranker saw, as arrays.

Invariant: a row that does not hold together is an error with its file and row; half-written files
are not looked at.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from predawn.server.request import F32, I64, U8, U64, RankBatch, UserId
from predawn.server.served_log_columns import SUFFIX, Layout, RankerInputs, layout_of
from predawn.server.traces_data import TraceError, jagged_rows


@dataclass(frozen=True, slots=True)
class ServedRows:
    """n requests with R candidates in total, in the order of time.

    t_ms: int64 [n]; users: [n]; counts: int64 [n], candidates of each; items: uint64 [R];
    item_features: float32 [R, F]; user: float32 [n, sum of dims]; sources: uint8 [n, user models];
    pairs: float32 [R, sum of dims]; pair_sources: uint8 [R, pair models]; pair_ages_ms: int64,
    -1: none; scores: float32 [R, tasks]; shown: bool [R], whether it was among the top k;
    snapshots: int64 [n, user models], versions of the rows.
    """

    t_ms: I64
    users: NDArray[np.object_]
    counts: I64
    items: U64
    item_features: F32
    user: F32
    sources: U8
    snapshots: I64
    pairs: F32
    pair_sources: U8
    pair_ages_ms: I64
    scores: F32
    shown: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.t_ms)

    def take(self, requests: I64) -> "ServedRows":
        """Some of the requests, with their candidates."""
        rows = jagged_rows(self.counts, requests)
        by_candidate = {"items", "item_features", "pairs", "pair_sources", "pair_ages_ms"}
        by_candidate |= {"scores", "shown"}
        return ServedRows(
            *(
                getattr(self, each.name)[rows if each.name in by_candidate else requests]
                for each in fields(self)
            )
        )

    def batch(self) -> RankBatch:
        """All of them, as the ranker was given each."""
        return RankBatch(
            self.user,
            self.sources,
            np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts)]),
            self.items,
            self.item_features,
            self.pairs,
            self.pair_sources,
        )


@dataclass(frozen=True, slots=True)
class ServedLogFile:
    """One file. rows: of requests, of all its rankers."""

    path: Path
    layout: Layout
    rows: int


def served_log(directory: Path) -> list[ServedLogFile]:
    """The files of a log, oldest first. TraceError where there are none, or one is not readable."""
    paths = sorted(directory.glob(f"served-*{SUFFIX}"))
    if not paths:
        raise TraceError(directory, 0, f"has no files served-*{SUFFIX} of a served-feature log")
    return [_opened(path) for path in paths]


def _opened(path: Path) -> ServedLogFile:
    try:
        metadata = pq.read_metadata(path)
        return ServedLogFile(path, layout_of(metadata.metadata), metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise TraceError(path, 0, f"not a readable Parquet file: {error}") from None
    except (KeyError, TypeError, ValueError):
        raise TraceError(path, 0, "is not of a served-feature log") from None


def ranker_of(files: Sequence[ServedLogFile], ranker: str | None) -> tuple[str, Layout]:
    """The ranker meant (None: the only one), and the newest layout. TraceError where it is not
    clear, its embeddings were not logged, or older files have other inputs of it."""
    newest = files[-1]
    names = list(newest.layout.rankers)
    name = ranker or (names[0] if len(names) == 1 else "")
    if name not in names:
        said = f"has no ranker {ranker!r}" if ranker else "has several rankers, name one"
        raise TraceError(newest.path, 0, f"{said}: {', '.join(names)}")
    for each in files:
        if each.layout.values == "ids":
            raise TraceError(each.path, 0, 'has no embeddings (served_log.values = "ids")')
        if name in each.layout.rankers and _shape(each.layout, name) != _shape(newest.layout, name):
            reason = f"ranker {name!r} read other inputs than in {newest.path.name}; take it away"
            raise TraceError(each.path, 0, reason)
    return name, newest.layout


def _shape(layout: Layout, ranker: str) -> object:
    inputs = layout.rankers[ranker]
    users = [layout.user_dims[name] for name in inputs.user_models]
    return inputs, users, [layout.pair_dims[name] for name in inputs.pair_models]


def read_served(
    files: Sequence[ServedLogFile], ranker: str, on_progress: Callable[[float], None]
) -> ServedRows:
    """All rows of a ranker. TraceError names file and row of the first that does not hold
    together; ranker: one that `ranker_of` accepts."""
    parts: list[ServedRows] = []
    for number, each in enumerate(files, 1):
        if ranker in each.layout.rankers:
            parts.append(_read(each, ranker))
        on_progress(number / len(files))
    columns = (np.concatenate([getattr(part, each.name) for part in parts])
               for each in fields(ServedRows))  # fmt: skip
    rows = ServedRows(*columns)
    if not len(rows):
        raise TraceError(files[-1].path.parent, 0, f"has no rows of ranker {ranker!r}")
    return rows.take(np.argsort(rows.t_ms, kind="stable").astype(np.int64))


def _read(file: ServedLogFile, ranker: str) -> ServedRows:
    try:
        table = pq.read_table(file.path)
        own = np.array([name == ranker for name in table.column("ranker").to_pylist()], np.bool_)
        part = table.filter(pa.array(own)).combine_chunks()
        return _Columns(file, part, np.flatnonzero(own) + 1).rows(ranker)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise TraceError(file.path, 0, f"not a readable served-feature log: {error}") from None


class _Columns:
    """A file's rows of one ranker. at: int64 [n], their 1-based numbers in the file."""

    def __init__(self, file: ServedLogFile, table: Any, at: I64) -> None:
        self._path, self._layout, self._table, self._at = file.path, file.layout, table, at
        self._counts = np.zeros(0, np.int64)

    def rows(self, ranker: str) -> ServedRows:
        inputs = self._layout.rankers[ranker]
        self._counts, items = self._jagged("items")
        users = [self._array(name).to_pylist() for name in ("user", "user_text")]
        return ServedRows(
            t_ms=self._array("t_ms").to_numpy(),
            users=_ids(*users),
            counts=self._counts,
            items=items.to_numpy().astype(np.uint64),
            item_features=self._beside("feature.{}", inputs.item_features, np.float32),
            user=self._user(inputs),
            sources=self._numbers("user.{}.source", inputs.user_models, np.uint8),
            snapshots=self._numbers("user.{}.snapshot", inputs.user_models, np.int64),
            pairs=self._pairs(inputs),
            pair_sources=self._beside("pairs.{}.sources", inputs.pair_models, np.uint8),
            pair_ages_ms=self._beside("pairs.{}.ages_ms", inputs.pair_models, np.int64),
            scores=self._beside("score.{}", inputs.tasks, np.float32),
            shown=self._shown(),
        )

    def _array(self, name: str) -> Any:
        column = self._table.column(name)
        return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)

    def _wrong(self, row: int, reason: str) -> TraceError:
        return TraceError(self._path, int(self._at[row]), reason)

    def _whole(self, name: str) -> Any:
        column = self._array(name)
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise self._wrong(row, f"{name} is null")
        return column

    def _jagged(self, name: str) -> tuple[I64, Any]:
        column = self._whole(name)
        return np.diff(column.offsets.to_numpy()).astype(np.int64), column.flatten()

    def _per_candidate(self, name: str) -> Any:
        counts, flat = self._jagged(name)
        uneven = np.flatnonzero(counts != self._counts)
        if len(uneven):
            row = int(uneven[0])
            reason = f"{name} has {counts[row]} values for {self._counts[row]} items"
            raise self._wrong(row, reason)
        return flat

    def _beside(self, pattern: str, names: Sequence[str], dtype: Any) -> Any:
        every = [self._per_candidate(pattern.format(name)).to_numpy() for name in names]
        return _stacked(every, int(self._counts.sum()), dtype)

    def _numbers(self, pattern: str, names: Sequence[str], dtype: Any) -> Any:
        every = [self._whole(pattern.format(name)).to_numpy() for name in names]
        return _stacked(every, len(self._at), dtype)

    def _user(self, inputs: RankerInputs) -> F32:
        rows = np.arange(len(self._at))
        parts = [
            self._values(f"user.{name}.embedding", self._whole(f"user.{name}.embedding"), rows)
            for name in inputs.user_models
        ]
        return np.concatenate(parts, axis=1)

    def _pairs(self, inputs: RankerInputs) -> F32:
        rows = np.repeat(np.arange(len(self._at)), self._counts)
        names = [f"pairs.{name}.embeddings" for name in inputs.pair_models]
        parts = [self._values(name, self._per_candidate(name), rows) for name in names]
        nothing = np.zeros((int(self._counts.sum()), 0), np.float32)
        return np.concatenate([nothing, *parts], axis=1)

    def _values(self, name: str, vectors: Any, rows: I64) -> F32:
        """float32 [n, dim] of a fixed-size list; rows: int64 [n], where each stands."""
        flat = vectors.flatten().to_numpy().astype(np.float32)
        values: F32 = flat.reshape(len(vectors), vectors.type.list_size)
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(broken):
            raise self._wrong(int(rows[broken[0]]), f"{name} has a value that is not finite")
        return values

    def _shown(self) -> NDArray[np.bool_]:
        counts, order = self._jagged("order")
        rows = np.repeat(np.arange(len(counts)), counts)
        position = order.to_numpy().astype(np.int64)
        outside = np.flatnonzero((position < 0) | (position >= self._counts[rows]))
        if len(outside):
            raise self._wrong(int(rows[outside[0]]), "order names no candidate")
        shown = np.zeros(int(self._counts.sum()), np.bool_)
        shown[(np.cumsum(self._counts) - self._counts)[rows] + position] = True
        return shown


def _stacked(columns: Sequence[Any], rows: int, dtype: Any) -> Any:
    """[rows, columns]; also of no columns."""
    table = np.zeros((rows, len(columns)), dtype)
    for number, values in enumerate(columns):
        table[:, number] = values
    return table


def _ids(numbers: Sequence[int | None], texts: Sequence[str | None]) -> NDArray[np.object_]:
    users: list[UserId | None] = [
        number if text is None else text for number, text in zip(numbers, texts, strict=True)
    ]
    found = np.empty(len(users), dtype=np.object_)
    found[:] = users
    return found


def source_counts(file: ServedLogFile) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """How often each `Source` was served, of every user and pair model. TraceError."""
    names = [f"user.{name}.source" for name in file.layout.user_dims]
    names += [f"pairs.{name}.sources" for name in file.layout.pair_dims]
    try:
        table = pq.read_table(file.path, columns=names)
        for name in names:
            column = table.column(name).combine_chunks()
            flat = column.flatten() if pa.types.is_list(column.type) else column.drop_null()
            yield name.split(".")[1], np.bincount(flat.to_numpy(), minlength=8).astype(np.int64)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise TraceError(file.path, 0, f"not a readable served-feature log: {error}") from None
