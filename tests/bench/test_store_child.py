"""A process on a store reads or writes until its time is over, and counts what it did."""

import numpy as np

from predawn.bench.store_child import caller, work
from predawn.bench.store_tables import DIM, NOW_MS, TTL_MS, filled, rows_of


def test_work_counts_keys_and_time() -> None:
    calls: list[int] = []
    turn = work(calls.append, batch=10, seconds=0.002)
    assert turn.keys == 10 * len(calls) and calls[:3] == [0, 1, 2]
    assert turn.elapsed_ns >= 2_000_000 and 0 < turn.p50_us <= turn.p99_us


def test_a_reader_reads_and_a_writer_overwrites() -> None:
    table = filled(rows_of(1_000, DIM), "fp32")
    read = caller(table.cache, "read", 1_000, 50, 1)
    assert read(3) > 40
    write = caller(table.cache, "write", 1_000, 50, 2)
    assert sum(write(i) for i in range(400)) == 400 * 50
    out, ages = np.ones((1_000, DIM), np.float32), np.empty(1_000, np.int64)
    table.cache.get_many(table.keys, NOW_MS, TTL_MS, out, ages)
    assert np.count_nonzero(out[ages >= 0]) == 0
