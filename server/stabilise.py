"""Averaging over versions (SUM) and rounding to the stored precision. Pure functions over arrays.

Invariant: what is served is what is stored. A computed row passes `compress` before anyone sees
it, so the answer of the request that waited and a later direct hit are bitwise the same.
A row of the store is `[served | newest raw | raw before ...]`: `parts` = `average_over` parts.
"""

import numpy as np

from predawn.server.request import F32

_FP16_LIMIT = 65_504.0  # largest finite half: beyond it a stored value would come back infinite
_BF16_LIMIT = np.float32(3.3895314e38)  # the same of bfloat16
_INT8_SCALE_LIMIT = np.float32(float.fromhex("0x1.020406p121"))  # 127 times it is finite


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


def compress(rows: F32, dtype: str, dim: int = 0) -> F32:
    """`rows` [n, parts * dim] as the store will give them back, and as it will give *that* back.

    "fp32": unchanged. "fp16", "bf16": rounded to the nearest, ties to even, values beyond the range
    cut to its largest finite value, NaN (absent) kept. "int8": 255 steps between -max and max of
    each part of `dim` values (0: the row is one part); a part with a NaN is all NaN.
    """
    if dtype == "fp32":
        return rows
    if dtype == "fp16":
        cut = np.clip(rows, -_FP16_LIMIT, _FP16_LIMIT)
        return cut.astype(np.float16).astype(np.float32)
    if dtype == "bf16":
        return _as_bf16(np.clip(rows, -_BF16_LIMIT, _BF16_LIMIT))
    # A scale that is rounded again may move by one bit: until it stays.
    parts = rows.reshape(-1, dim or rows.shape[1])
    before, now = parts, _as_int8(parts)
    while not np.array_equal(before, now, equal_nan=True):
        before, now = now, _as_int8(now)
    return now.reshape(rows.shape)


def _as_bf16(rows: F32) -> F32:
    bits = np.ascontiguousarray(rows, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(rows), rows, rounded.view(np.float32)).astype(np.float32)


def _as_int8(parts: F32) -> F32:
    """One rounding of parts [n, dim], as csrc/rows.hpp does it."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        largest = np.abs(parts).max(axis=1, keepdims=True, initial=0)
        scale = np.minimum(largest / np.float32(127), _INT8_SCALE_LIMIT).astype(np.float32)
        steps = np.rint(parts * (np.float32(1) / scale))
        rounded = (steps * scale).astype(np.float32)
    rounded = np.where(scale < np.finfo(np.float32).tiny, np.float32(0), rounded)
    return np.where(np.isfinite(largest), rounded, np.float32(np.nan))
