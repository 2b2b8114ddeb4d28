"""The four sizes of the user tower; `small` is what training takes by default.

| | tables x rows x d | bag | dense | tokens | rank | K x D | MFLOP a user |
| --- | --- | --- | --- | --- | --- | --- | --- |
| tiny | 16 x 500 x 8 fp32 | 4 | 54 | 18 -> 4 -> 2 | 4 | 2 x 16 | 0.02 |
| small | 16 x 10k x 16 fp32 | 4 | 54 | 20 -> 8 -> 4 | 16 | 2 x 32 | 0.12 |
| medium | 64 x 1M x 64 fp16 (8.2 GB) | 10 | 256 | 72 -> 32 -> 16 | 64 | 4 x 96 | 7.7 |
| large | 512 x 1M x 128 int8 (67 GB) | 20 | 1024 | 544 -> 128 -> 64 -> 32 | 256 | 8 x 128 | 209 |

Tables and dense columns are counted for five event types and no attributes. A history of events
has no 64 or 512 features of its own, as a company's users have: the larger sizes take more crosses
(`user_crosses`) over more windows of the newest events. All are real, but many say nearly the same,
and a short history leaves the later windows empty: `HISTORY_LENGTHS` is what each size can use.
"""

from dataclasses import replace
from typing import Any, Final

from predawn.server.models.user_features import FeatureShape
from predawn.server.models.user_tower import TowerShape

HISTORY_LENGTHS: Final = {"tiny": 32, "small": 32, "medium": 64, "large": 512}
"""Events per user that each size is trained and served with; its names are the sizes."""

_SMOOTHING = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


def depths(count: int, longest: int) -> tuple[int, ...]:
    """`count` different depths into a history, 1 .. longest, in about equal ratios."""
    found = [1]
    for k in range(1, count):
        found.append(max(found[-1] + 1, round(longest ** (k / (count - 1)))))
    return tuple(found)


_FEATURES: dict[str, dict[str, Any]] = {
    "tiny": {"rows": 500, "item_rows": 1_024},
    "small": {},
    "medium": {
        "rows": 1_000_000,
        "bag": 10,
        "item_rows": 131_072,
        "type_crosses": 4,
        "type_windows": 2,
        "event_crosses": 10,
        "event_windows": 2,
        "user_columns": 4,
        "windows": depths(33, HISTORY_LENGTHS["medium"]),
        "smoothing": _SMOOTHING,
    },
    "large": {
        "rows": 1_000_000,
        "bag": 20,
        "item_rows": 1_048_576,
        "type_crosses": 5,
        "type_windows": 12,
        "event_crosses": 13,
        "event_windows": 16,
        "user_columns": 4,
        "windows": depths(161, HISTORY_LENGTHS["large"]),
        "smoothing": _SMOOTHING,
    },
}
_TOWERS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 8, "dense_tokens": 2, "tokens": (4, 2), "rank": 4, "output_dim": 16},
    "small": {},
    "medium": {
        "width": 64,
        "dense_tokens": 8,
        "tokens": (32, 16),
        "rank": 64,
        "outputs": 4,
        "output_dim": 96,
        "tables": "fp16",
        "precision": "fp32",
    },
    "large": {
        "width": 128,
        "dense_tokens": 32,
        "tokens": (128, 64, 32),
        "rank": 256,
        "outputs": 8,
        "output_dim": 128,
        "tables": "int8",
        "precision": "fp32",
    },
}


def tower_of_size(
    size: str, types: int, attributes: int = 0, rows: int | None = None
) -> TowerShape:
    """The tower of a size; KeyError on another. types, attributes: of the history that it reads;
    rows: of each table, where the size's own are too many; the table of items is cut alike."""
    features = FeatureShape(types, attributes, **_FEATURES[size])
    if rows is not None:
        features = replace(features, rows=rows, item_rows=min(rows, features.item_rows))
    return TowerShape(features, **_TOWERS[size])


def multiply_adds(shape: TowerShape) -> int:
    """Of one user, in matrix products (half the FLOP); the taste is left out."""
    width, dense = shape.width, shape.features.dense
    hidden = 4 * width
    total = dense * hidden + hidden * (shape.dense_tokens + 1) * width + dense * shape.dim
    before = shape.features.tables + shape.dense_tokens
    for after in shape.tokens:
        inner = after - 1
        flat = inner * width
        keys = before * width * width
        mixing = 2 * inner * before * width + after * before * width
        mixer = 4 * inner * inner * width + 8 * inner * width * width
        total += keys + mixing + mixer + 2 * flat * shape.rank
        before = after
    return total + before * width * shape.dim
