"""Writes a trace as JSON lines (`.jsonl`, `.jsonl.gz`) or Parquet, and its truth beside it.

Invariant: the same trace gives the same bytes, and reading them gives the trace back. An unknown
label (NaN) is null in JSON lines, and left out where it is unknown for a whole request.
"""

import gzip
import io
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from predawn.server.request import F32
from predawn.server.traces_data import Ids, Trace, TraceError, Truth


def truth_path(path: Path) -> Path:
    """Where the hidden variables of a generated trace lie."""
    return path.with_name(path.name + ".truth.npz")


def write_trace(path: str | Path, trace: Trace) -> None:
    """Writes `trace` in the format of the suffix: .jsonl or .json, with .gz or not; .parquet."""
    path = Path(path)
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind == ".parquet":
        pq.write_table(_table(trace), path)
    elif kind in (".jsonl", ".json", ".ndjson"):
        _write_lines(path, trace)
    else:
        raise TraceError(path, 0, f"unknown suffix {kind!r}: use .jsonl, .jsonl.gz or .parquet")
    _write_truth(truth_path(path), trace.truth)


def _write_truth(path: Path, truth: Truth | None) -> None:
    if truth is None:
        # A truth left from an earlier trace of that name would belong to other requests.
        path.unlink(missing_ok=True)
        return
    np.savez(
        path,
        user_vectors=truth.user_vectors,
        item_vectors=truth.item_vectors,
        scale=np.float64(truth.scale),
        bias=np.float64(truth.bias),
    )


def read_truth(path: Path, requests: int) -> Truth | None:
    """The truth beside the trace `path`, or None where there is none."""
    beside = truth_path(path)
    if not beside.exists():
        return None
    try:
        with np.load(beside, allow_pickle=False) as file:
            truth = Truth(
                user_vectors=file["user_vectors"],
                item_vectors=file["item_vectors"],
                scale=float(file["scale"]),
                bias=float(file["bias"]),
            )
    except (OSError, ValueError, KeyError) as error:
        raise TraceError(beside, 0, f"not a readable truth file: {error}") from None
    if len(truth.user_vectors) != requests:
        reason = f"is of {len(truth.user_vectors)} requests, the trace has {requests}"
        raise TraceError(beside, 0, f"{reason}; delete it or generate the trace again")
    return truth


def _write_lines(path: Path, trace: Trace) -> None:
    with open(path, "wb") as raw:
        if path.suffix != ".gz":
            raw.writelines(_lines(trace))
            return
        # No name and no time in the header: the same trace gives the same bytes.
        with (
            gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
            io.BufferedWriter(packed, 1 << 16) as buffered,  # pyright: ignore[reportArgumentType]
        ):
            buffered.writelines(_lines(trace))


def _lines(trace: Trace) -> Iterator[bytes]:
    """One line per request; plain lists are several times faster here than array slices."""
    t_ms, offsets = trace.t_ms.tolist(), trace.offsets.tolist()
    users, items = _listed(trace.users), _listed(trace.item_ids)
    clicked = trace.clicked.tolist() if "click" in trace.labels else None
    labels = {name: values.tolist() for name, values in _own_labels(trace).items()}
    features = {
        name: trace.item_features[:, column].tolist()
        for column, name in enumerate(trace.item_feature_names)
    }
    for i, (start, stop) in enumerate(itertools.pairwise(offsets)):
        row: dict[str, Any] = {"t_ms": t_ms[i], "user": users[i], "items": items[start:stop]}
        if clicked is not None:
            row["clicked"] = [items[at] for at in range(start, stop) if clicked[at]]
        if labels:
            mine = {name: values[start:stop] for name, values in labels.items()}
            row["labels"] = {name: values for name, values in mine.items() if _any_known(values)}
        if features:
            row["features"] = {name: values[start:stop] for name, values in features.items()}
        yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _any_known(values: list[float]) -> bool:
    return not all(map(math.isnan, values))


def _listed(ids: Ids) -> list[Any]:
    return ids if isinstance(ids, list) else ids.tolist()


def _own_labels(trace: Trace) -> dict[str, F32]:
    """Labels beside "click", which `clicked` carries."""
    return {name: values for name, values in trace.labels.items() if name != "click"}


def _table(trace: Trace) -> Any:
    columns: dict[str, Any] = {
        "t_ms": pa.array(trace.t_ms),
        "user": pa.array(trace.users),
        "items": _list_array(trace.offsets, pa.array(trace.item_ids)),
    }
    if "click" in trace.labels:
        chosen = np.flatnonzero(trace.clicked)
        starts = np.searchsorted(chosen, trace.offsets)
        columns["clicked"] = _list_array(starts, pa.array(trace.item_ids).take(pa.array(chosen)))
    for name, values in _own_labels(trace).items():
        columns[f"label.{name}"] = _list_array(trace.offsets, pa.array(values))
    for column, name in enumerate(trace.item_feature_names):
        values = np.ascontiguousarray(trace.item_features[:, column])
        columns[f"feature.{name}"] = _list_array(trace.offsets, pa.array(values))
    return pa.table(columns)


def _list_array(offsets: Any, values: Any) -> Any:
    return pa.LargeListArray.from_arrays(pa.array(offsets, type=pa.int64()), values)
