"""A store's file: how long it takes to make, to attach again, and to recover after a kill."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from predawn.bench import machine
from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.store_sharing import worker
from predawn.bench.store_tables import (
    DIM,
    NOW_MS,
    Plan,
    huge_row,
    ids_of,
    keys_of,
    new_cache,
    rows_of,
    scratch,
    stored_bytes,
)
from predawn.csrc import _core

_DTYPE = "fp16"
_PART = 250_000  # rows that are written again and again under new ids
_ATTACHES = 9
_FULL = 0.8


def names(plan: Plan) -> list[str]:
    """Cases of `files`."""
    return [f"{what} a store of {plan.file_bytes / 2**30:.3g} GiB" for what in ("create", "attach")]


def files(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
    """Seconds of creation, milliseconds of a warm attach, and of one after kill -9."""
    del effort  # one thing happens once
    create, attach = names(plan)
    with scratch() as folder:
        path = folder / "store"
        cache, took_s = _timed(lambda: new_cache(_capacity(plan), DIM, _DTYPE, path=path))
        size = path.stat().st_size
        rows = [mark.row(create, "time", took_s, "s", n=1)]
        rows.append(mark.row(create, "bandwidth", size / took_s / 1e9, "GB/s", "higher", n=1))
        rows.append(huge_row(mark, create, cache))
        entries = _fill(cache, int(cache.capacity * _FULL))
        cache.close()
        del cache
        warm = [_attach_s(path) for _ in range(_ATTACHES)]
        rows.append(
            mark.row(attach, "time_warm", float(np.median(warm)) * 1_000, "ms", n=len(warm))
        )
        return [*rows, *_after_a_kill(mark, plan, attach, path, entries)]


def _after_a_kill(mark: Stamp, plan: Plan, case: str, path: Path, entries: int) -> list[Row]:
    """Every entry is verified then: how long that takes, and how many are still there."""
    with worker(path, "read", plan, machine.cores()[0]):
        pass  # is killed at the end
    store, took_s = _timed(lambda: _core.EmbeddingCache.attach(str(path)))
    kept = store.stats()["recovered_kept"] / entries
    store.close()
    scanned = path.stat().st_size / took_s / 1e9
    return [
        mark.row(case, "time_after_kill", took_s * 1_000, "ms", n=1),
        mark.row(case, "scan_after_kill", scanned, "GB/s", "higher", n=1),
        mark.row(case, "recovered_share", kept, "share", "higher", n=entries),
    ]


def _capacity(plan: Plan) -> int:
    """Entries that fill the file: 16 slots and a line for every 14 of them."""
    slot = 64 + -(-stored_bytes(_DTYPE, DIM) // 64) * 64
    return plan.file_bytes // (16 * slot + 64) * 14


def _fill(cache: _core.EmbeddingCache, entries: int) -> int:
    """Writes that many; how many of them stayed."""
    rows = rows_of(min(_PART, entries), DIM)
    for start in range(0, entries, len(rows)):
        cache.put_many(keys_of(ids_of(len(rows), start)), rows, NOW_MS, 1, 0)
    return cache.stats()["entries"]


def _attach_s(path: Path) -> float:
    cache, took_s = _timed(lambda: _core.EmbeddingCache.attach(str(path)))
    cache.close()
    return took_s


def _timed(
    call: Callable[[], _core.EmbeddingCache],
) -> tuple[_core.EmbeddingCache, float]:
    start = time.perf_counter_ns()
    found = call()
    return found, (time.perf_counter_ns() - start) / 1e9
