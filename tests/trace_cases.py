"""Rows, files and comparisons that the tests of traces share."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from predawn.server.traces import (
    Trace,
)

REQUESTS: list[dict[str, Any]] = [
    {"t_ms": 5, "user": 7, "items": [3, 4, 9], "clicked": [9, 3]},
    {"t_ms": 5, "user": 2**64 - 1, "items": [0]},
    {"t_ms": 9, "user": 7, "items": [4, 2**64 - 1], "clicked": []},
]


def lines_of(rows: list[Any]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def written(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(lines_of(rows))
    return path


def same(one: Trace, other: Trace) -> None:
    """Every column of two traces is equal, ids in kind as well."""
    np.testing.assert_array_equal(one.t_ms, other.t_ms)
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_array_equal(one.clicked, other.clicked)
    for mine, theirs in ((one.users, other.users), (one.item_ids, other.item_ids)):
        assert isinstance(mine, list) == isinstance(theirs, list)
        assert list(mine) == list(theirs)
    assert one.labels.keys() == other.labels.keys()
    for name, values in one.labels.items():
        np.testing.assert_array_equal(values, other.labels[name])
    assert one.item_feature_names == other.item_feature_names
    np.testing.assert_array_equal(one.item_features, other.item_features)
