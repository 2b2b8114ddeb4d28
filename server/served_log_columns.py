"""The columns of the served-feature log, and how requests become them.

One row a request. Every model, task and item feature of the configuration has columns of its own,
null where the request's ranker does not have it:

  t_ms, request_id, ranker, ranker_version, degraded
  user | user_text              the id: an unsigned integer or a string, the other one null
  items                         candidates as models see them, in the order sent
  order                         positions of those that were shown, best first
  feature.NAME, score.TASK      float32 of each candidate
  user.MODEL.source | age_ms | snapshot | embedding
  pairs.MODEL.sources | ages_ms | embeddings        one of each a candidate

Sources are numbers of `Source`; an age of -1 stands for none. The schema's metadata say which
models each ranker reads, in its order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa

from predawn.server.request import F32, PairRows, RankReply, RankRequest, UserRow

METADATA = b"predawn.served_log"
SUFFIX = ".parquet"
Values = Literal["fp16", "fp32", "ids"]

_ITEM_LISTS: dict[str, Any] = {"items": pa.uint64(), "order": pa.int32()}


@dataclass(frozen=True, slots=True)
class RankerInputs:
    """Names of what a ranker reads and gives, in its order."""

    user_models: tuple[str, ...]
    pair_models: tuple[str, ...]
    tasks: tuple[str, ...]
    item_features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns follow from. user_dims, pair_dims: of every user and pair model."""

    rankers: Mapping[str, RankerInputs]
    user_dims: Mapping[str, int]
    pair_dims: Mapping[str, int]
    values: Values

    def names(self, kind: str) -> tuple[str, ...]:
        """All `tasks` or `item_features`, each once."""
        every = (name for each in self.rankers.values() for name in getattr(each, kind))
        return tuple(dict.fromkeys(every))

    def schema(self) -> Any:
        """The pyarrow schema, `described` in its metadata."""
        fields = {
            **{"t_ms": pa.int64(), "request_id": pa.string(), "ranker": pa.string()},
            **{"ranker_version": pa.int64(), "degraded": pa.bool_()},
            **{"user": pa.uint64(), "user_text": pa.string()},
            **{name: pa.list_(kind) for name, kind in _ITEM_LISTS.items()},
        }
        fields |= {f"feature.{n}": pa.list_(pa.float32()) for n in self.names("item_features")}
        fields |= {f"score.{n}": pa.list_(pa.float32()) for n in self.names("tasks")}
        for name, dim in self.user_dims.items():
            fields |= {f"user.{name}.source": pa.uint8(), f"user.{name}.age_ms": pa.int64()}
            fields[f"user.{name}.snapshot"] = pa.int64()
            if self.values != "ids":
                fields[f"user.{name}.embedding"] = self._vector(dim)
        for name, dim in self.pair_dims.items():
            fields[f"pairs.{name}.sources"] = pa.list_(pa.uint8())
            fields[f"pairs.{name}.ages_ms"] = pa.list_(pa.int64())
            if self.values != "ids":
                fields[f"pairs.{name}.embeddings"] = pa.list_(self._vector(dim))
        return pa.schema(list(fields.items()), metadata={METADATA: self._described()})

    def _vector(self, dim: int) -> Any:
        return pa.list_(pa.float16() if self.values == "fp16" else pa.float32(), dim)

    def _described(self) -> bytes:
        rankers = {
            name: {field: getattr(each, field) for field in RankerInputs.__slots__}
            for name, each in self.rankers.items()
        }
        dims = {"user_dims": dict(self.user_dims), "pair_dims": dict(self.pair_dims)}
        return orjson.dumps({"rankers": rankers, **dims, "values": self.values})


def layout_of(metadata: Mapping[bytes, bytes] | None) -> Layout:
    """The layout of a file; KeyError, TypeError or ValueError on what is no served-feature log."""
    described = orjson.loads((metadata or {})[METADATA])
    rankers = {
        name: RankerInputs(**{field: tuple(names) for field, names in each.items()})
        for name, each in described["rankers"].items()
    }
    return Layout(rankers, described["user_dims"], described["pair_dims"], described["values"])


@dataclass(frozen=True, slots=True)
class Seen:
    """A request and its reply as they were, when it was answered, and by which version."""

    t_ms: int
    ranker_version: int
    request: RankRequest
    reply: RankReply


def batch_of(layout: Layout, seen: Sequence[Seen]) -> Any:
    """The rows of some requests as a pyarrow record batch."""
    requests, replies = [each.request for each in seen], [each.reply for each in seen]
    users = [request.user for request in requests]
    columns: dict[str, Any] = {
        "t_ms": pa.array([each.t_ms for each in seen], pa.int64()),
        "request_id": pa.array([request.request_id for request in requests], pa.string()),
        "ranker": pa.array([request.ranker for request in requests], pa.string()),
        "ranker_version": pa.array([each.ranker_version for each in seen], pa.int64()),
        "degraded": pa.array([reply.degraded for reply in replies], pa.bool_()),
        "user": pa.array([_if(user, int) for user in users], pa.uint64()),
        "user_text": pa.array([_if(user, str) for user in users], pa.string()),
        "items": _lists([request.item_hashes for request in requests], pa.uint64()),
        "order": _lists([reply.order for reply in replies], pa.int32()),
    }
    columns |= _named(layout, "item_features", "feature", seen)
    columns |= _named(layout, "tasks", "score", seen)
    for name in layout.user_dims:
        columns |= _user_columns(layout, name, [reply.users.get(name) for reply in replies])
    for name in layout.pair_dims:
        columns |= _pair_columns(layout, name, [reply.pairs.get(name) for reply in replies])
    schema = layout.schema()
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _if(value: object, kind: type) -> Any:
    return value if isinstance(value, kind) else None


def _named(layout: Layout, kind: str, prefix: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """Columns of numbers by candidate that not every ranker has."""
    columns: dict[str, Any] = {}
    for name in layout.names(kind):
        values: list[F32 | None] = []
        for each in seen:
            names: tuple[str, ...] = getattr(layout.rankers[each.request.ranker], kind)
            table = each.request.item_features if prefix == "feature" else each.reply.task_scores
            known = name in names and table is not None
            values.append(table[:, names.index(name)] if known and table is not None else None)
        columns[f"{prefix}.{name}"] = _lists(values, pa.float32())
    return columns


def _user_columns(layout: Layout, name: str, rows: Sequence[UserRow | None]) -> dict[str, Any]:
    at = f"user.{name}."
    columns = {
        f"{at}source": pa.array([row and int(row.source) for row in rows], pa.uint8()),
        f"{at}age_ms": pa.array([row and row.age_ms for row in rows], pa.int64()),
        f"{at}snapshot": pa.array([row and row.snapshot for row in rows], pa.int64()),
    }
    if layout.values != "ids":
        nothing = np.zeros(layout.user_dims[name], np.float32)
        values = np.stack([nothing if row is None else row.row for row in rows])
        absent = pa.array([row is None for row in rows], pa.bool_())
        columns[f"{at}embedding"] = _vectors(layout, values, absent)
    return columns


def _pair_columns(layout: Layout, name: str, rows: Sequence[PairRows | None]) -> dict[str, Any]:
    at = f"pairs.{name}."
    columns = {
        f"{at}sources": _lists([row and row.sources for row in rows], pa.uint8()),
        f"{at}ages_ms": _lists([row and row.ages_ms for row in rows], pa.int64()),
    }
    if layout.values != "ids":
        dim = layout.pair_dims[name]
        there = [row.rows for row in rows if row is not None]
        values = np.concatenate([np.zeros((0, dim), np.float32), *there])
        counts = [None if row is None else len(row.rows) for row in rows]
        vectors = _vectors(layout, values)
        columns[f"{at}embeddings"] = pa.ListArray.from_arrays(_offsets(counts), vectors)
    return columns


def _lists(values: Sequence[Any], kind: Any) -> Any:
    """One list a row, of an array each; None: null."""
    there = [each for each in values if each is not None]
    dtype = kind.to_pandas_dtype()
    flat = np.concatenate(there).astype(dtype, copy=False) if there else np.zeros(0, dtype)
    counts = [None if each is None else len(each) for each in values]
    return pa.ListArray.from_arrays(_offsets(counts), pa.array(flat, kind))


def _offsets(counts: Iterable[int | None]) -> Any:
    """Of lists so long; None: null."""
    offsets: list[int | None] = []
    at = 0
    for count in counts:
        offsets.append(None if count is None else at)
        at += count or 0
    return pa.array([*offsets, at], pa.int32())


def _vectors(layout: Layout, values: F32, absent: Any = None) -> Any:
    """A fixed-size list a row of `values` [n, dim]. What fp16 cannot hold becomes infinite."""
    dtype = np.float16 if layout.values == "fp16" else np.float32
    with np.errstate(over="ignore"):
        flat = np.ascontiguousarray(values.astype(dtype, copy=False)).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values.shape[1], mask=absent)
