"""One process on a store that others use too: reads or writes for as long as it is told.

`python -m predawn.bench.store_child PATH ROLE ENTRIES BATCH SEED` attaches, says "ready",
and answers every number of seconds on standard input with a line of JSON, until the input ends.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from predawn.bench.store_tables import NOW_MS, TTL_MS, ids_of, keys_of, round_and_round
from predawn.csrc import _core

_BATCHES = 400  # their keys leave room in the caches for what is measured; their rows do not fit


@dataclass(frozen=True, slots=True)
class Turn:
    """keys: worked in `elapsed_ns`; p50_us, p99_us: of the time of a batch."""

    keys: int
    elapsed_ns: int
    p50_us: float
    p99_us: float


def work(call: Callable[[int], object], batch: int, seconds: float) -> Turn:
    """Calls with 0, 1, ... until `seconds` have passed."""
    took: list[int] = []
    start = last = time.perf_counter_ns()
    end = start + round(seconds * 1e9)
    for i in round_and_round(range(_BATCHES)):
        call(i)
        now = time.perf_counter_ns()
        took.append(now - last)
        last = now
        if now >= end:
            break
    p50, p99 = np.quantile(took, (0.5, 0.99)) / 1_000
    return Turn(len(took) * batch, last - start, float(p50), float(p99))


def caller(
    cache: _core.EmbeddingCache, role: str, entries: int, batch: int, seed: int
) -> Callable[[int], int]:
    """Reads or overwrites batch i of random keys of the first `entries` ids. Workers with one seed
    would go over the same keys at the same time."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, entries, _BATCHES * batch)
    keys = list(keys_of(ids_of(entries)[chosen]).reshape(_BATCHES, batch, 2))
    rows, ages = np.zeros((batch, cache.dim), np.float32), np.empty(batch, np.int64)
    get_many, put_many = cache.get_many, cache.put_many
    if role == "write":
        return lambda i: put_many(keys[i], rows, NOW_MS, 1, 0)
    return lambda i: get_many(keys[i], NOW_MS, TTL_MS, rows, ages)


def main() -> None:
    """The command of the module's docstring."""
    path, role, entries, batch, seed = sys.argv[1:]
    call = caller(_core.EmbeddingCache.attach(path), role, int(entries), int(batch), int(seed))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(work(call, int(batch), float(line)))), flush=True)


if __name__ == "__main__":
    main()
