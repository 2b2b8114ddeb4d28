"""Averaging over versions (SUM) and rounding to the stored precision. Pure functions over arrays.

Invariant: what is served is what is stored. A computed row passes `compress` before anyone sees
it, so the answer of the request that waited and a later direct hit are bitwise the same.
A row of the store that is averaged over `parts` versions is `[served | newest raw | raw before
...]`; one that is averaged exponentially is what was served. Computed by csrc/average.hpp, whose
bits are those of the numpy formulas beside its tests.
"""

import numpy as np

from predawn.csrc import _layers
from predawn.server.request import F32


def average(raw: F32, previous: F32, dtype: str = "fp32") -> F32:
    """Whole rows of the store, float32 [n, parts * dim], from new raw vectors [n, dim] and the
    previous raw parts [n, (parts - 1) * dim], newest first, NaN where there is none.

    served = mean of `raw` and the previous parts that are there, whatever snapshot made them
    (SUM, arXiv 2311.09544: the newest and the two before, against the jolt of a new snapshot).
    The oldest part falls out. parts 1 (`previous` [n, 0]): served = raw, nothing else kept.
    dtype: as `compress` of the result, in the same pass.
    """
    n, dim = raw.shape
    rows: F32 = np.empty((n, dim + previous.shape[1]), dtype=np.float32)
    _layers.average_quantise(_plain(raw), _plain(previous), rows, dtype)
    return rows


def average_exponentially(raw: F32, served_before: F32, weight: float, dtype: str = "fp32") -> F32:
    """What is served from now on: served_before + weight * (raw - served_before), raw where nothing
    was served before (NaN). float32 [n, dim], as both; weight: above 0, at most 1 (1: no average).

    The newest raw vector counts `weight`, the one before weight * (1 - weight), and so on: a new
    snapshot takes over within about 1 / weight updates. dtype: as in `average`.
    """
    rows: F32 = np.empty(raw.shape, dtype=np.float32)
    _layers.exponential_quantise(_plain(raw), _plain(served_before), weight, rows, dtype)
    return rows


def compress(rows: F32, dtype: str, dim: int = 0) -> F32:
    """`rows` [n, parts * dim] as the store will give them back, and as it will give *that* back.

    "fp32": unchanged. "fp16", "bf16": rounded to the nearest, ties to even, values beyond the range
    cut to its largest finite value, NaN (absent) kept. "int8": 255 steps between -max and max of
    each part of `dim` values (0: the row is one part); a part with a NaN is all NaN.
    """
    if dtype == "fp32" or not rows.size:
        return rows
    rounded: F32 = np.empty(rows.shape, dtype=np.float32)
    _layers.quantise(_plain(rows), rounded, dim or rows.shape[1], dtype)
    return rounded


def _plain(rows: F32) -> F32:
    """In C order, as native code reads it; a copy only where it is not so already."""
    return np.ascontiguousarray(rows, dtype=np.float32)
