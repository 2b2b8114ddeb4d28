"""Numbers of rows that a device computes: few, so that each has its CUDA graph.

Invariant: a bucket is at most half as large again as the one below it, so that padding costs at
most a half, and 15 to 18 % on average where sizes are spread evenly on a log scale.
"""

from bisect import bisect_left
from typing import Final

_SMALLEST = 64
_LARGEST = 8192

ROW_BUCKETS: Final = tuple(
    rows
    for power in range(8)
    for rows in (_SMALLEST << power, (_SMALLEST << power) * 3 // 2)
    if rows <= _LARGEST
)
"""64, 96, 128, 192, ... 8192."""


def bucket_of(rows: int) -> int:
    """The smallest bucket that holds `rows`. ValueError for more than the largest."""
    if rows > _LARGEST:
        raise ValueError(f"{rows} rows are more than the largest bucket, {_LARGEST}")
    return ROW_BUCKETS[bisect_left(ROW_BUCKETS, rows)]


def buckets_for(rows: int) -> tuple[int, ...]:
    """The buckets that batches of 1 to `rows` need; of more than the largest, all."""
    return ROW_BUCKETS[: bisect_left(ROW_BUCKETS, min(rows, _LARGEST)) + 1]
