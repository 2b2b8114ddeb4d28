"""Averaging over versions (SUM) and rounding to the stored precision. Pure functions over arrays.

Invariant: what is served is what is stored. A computed row passes `compress` before anyone sees
it, so the answer of the request that waited and a later direct hit are bitwise the same.
A row of the store is `[served | newest raw | raw before ...]`: `parts` = `average_over` parts.
"""

import numpy as np

from predawn.server.request import F32

_FP16_LIMIT = 65_504.0  # largest finite half: beyond it a stored value would come back infinite


def average(raw: F32, previous: F32) -> F32:
    """Whole rows of the store, float32 [n, parts * dim], from new raw vectors [n, dim] and the
    previous raw parts [n, (parts - 1) * dim], newest first, NaN where there is none.

    served = mean of `raw` and the previous parts that are there, whatever snapshot made them
    (SUM, arXiv 2311.09544: the newest and the two before, against the jolt of a new snapshot).
    The oldest part falls out. parts 1 (`previous` [n, 0]): served = raw, nothing else kept.
    """
    n, dim = raw.shape
    kept = previous.shape[1] // dim
    if kept == 0:
        return raw.astype(np.float32)
    parts = previous.reshape(n, kept, dim)
    there = ~np.isnan(parts[:, :, :1])  # a part is wholly there or wholly NaN
    served = raw.astype(np.float32)
    for k in range(kept):
        np.add(served, parts[:, k], out=served, where=there[:, k])
    served /= (1 + there.sum(axis=1)).astype(np.float32)
    return np.concatenate([served, raw, previous[:, : (kept - 1) * dim]], axis=1)


def compress(rows: F32, dtype: str) -> F32:
    """`rows` as the store will give them back: unchanged for "fp32"; for "fp16" rounded to the
    nearest half, values beyond its range cut to its largest finite value, NaN (absent) kept."""
    if dtype == "fp32":
        return rows
    cut = np.clip(rows, -_FP16_LIMIT, _FP16_LIMIT)
    return cut.astype(np.float16).astype(np.float32)
