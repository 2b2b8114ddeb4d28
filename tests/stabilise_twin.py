"""Averaging and rounding in numpy: the truth that csrc/average.hpp is held to, bit by bit."""

import numpy as np

from predawn.server.request import F32

_FP16_LIMIT = 65_504.0
_BF16_LIMIT = np.float32(3.3895314e38)
_INT8_SCALE_LIMIT = np.float32(float.fromhex("0x1.020406p121"))  # 127 times it is finite


def average(raw: F32, previous: F32) -> F32:
    """[served | raw | previous but the oldest part]; absent parts are NaN."""
    n, dim = raw.shape
    kept = previous.shape[1] // dim
    if kept == 0:
        return raw.copy()
    parts = previous.reshape(n, kept, dim)
    there = ~np.isnan(parts[:, :, :1])
    served = raw.copy()
    for k in range(kept):
        np.add(served, parts[:, k], out=served, where=there[:, k])
    served /= (1 + there.sum(axis=1)).astype(np.float32)
    return np.concatenate([served, raw, previous[:, : (kept - 1) * dim]], axis=1)


def average_exponentially(raw: F32, before: F32, weight: float) -> F32:
    """before + weight * (raw - before); raw where nothing was before."""
    stepped = before + np.float32(weight) * (raw - before)
    return np.where(np.isnan(before[:, :1]), raw, stepped).astype(np.float32)


def compress(rows: F32, dtype: str, dim: int) -> F32:
    """As the store gives rows back, and as it gives that back. -0.0 is 0.0 in int8."""
    if dtype == "fp32":
        return rows
    if dtype == "fp16":
        return np.clip(rows, -_FP16_LIMIT, _FP16_LIMIT).astype(np.float16).astype(np.float32)
    if dtype == "bf16":
        return _as_bf16(np.clip(rows, -_BF16_LIMIT, _BF16_LIMIT))
    parts = rows.reshape(-1, dim)
    before, now = parts, _as_int8(parts)
    while not np.array_equal(before, now, equal_nan=True):
        before, now = now, _as_int8(now)
    return now.reshape(rows.shape) + np.float32(0)


def _as_bf16(rows: F32) -> F32:
    bits = np.ascontiguousarray(rows).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(rows), rows, rounded.view(np.float32)).astype(np.float32)


def _as_int8(parts: F32) -> F32:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        largest = np.abs(parts).max(axis=1, keepdims=True, initial=0)
        scale = np.minimum(largest / np.float32(127), _INT8_SCALE_LIMIT).astype(np.float32)
        steps = np.rint(parts * (np.float32(1) / scale))
        rounded = (steps * scale).astype(np.float32)
    rounded = np.where(scale < np.finfo(np.float32).tiny, np.float32(0), rounded)
    return np.where(np.isfinite(largest), rounded, np.float32(np.nan))
