"""Threads over one store through Python: no torn row, no wrong key, no version that goes back.

The same is done natively under sanitizers (cache_stress_test.cpp); here the GIL, numpy's buffers
and the bindings are part of it.
"""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from store_calls import SEED

from predawn.csrc._core import EmbeddingCache

# Few keys and long rows: a copy that another one interrupts is likely.
KEYS, DIM, PARTS, BATCH, ROUNDS, NOW_MS = 64, 512, 2, 48, 1_500, 10**6


def keys_of(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    return np.stack([ids, ~ids], axis=1).astype(np.uint64)


def write(store: EmbeddingCache, writer: int) -> None:
    """Every lane of a row is version * KEYS + key, exact in fp32; each key has one writer."""
    random = np.random.default_rng(writer)
    for version in range(1, ROUNDS + 1):
        ids = random.integers(0, KEYS // 2, BATCH) * 2 + writer
        lanes = (version * KEYS + ids).astype(np.float32)
        rows = np.repeat(lanes[:, None], DIM * PARTS, axis=1)
        # Fewer are written only where others changed the set again and again.
        assert 0 < store.put_many(keys_of(ids), rows, version, version, writer) <= BATCH


def read(store: EmbeddingCache, reader: int, is_writing: Callable[[], bool]) -> None:
    random = np.random.default_rng(100 + reader)
    newest = np.zeros(KEYS, np.int64)
    out = np.empty((BATCH, DIM * PARTS if reader else DIM), np.float32)
    ages, versions = np.empty(BATCH, np.int64), np.empty(BATCH, np.uint32)
    hits, is_last = 0, False
    while not is_last:
        is_last = not is_writing()
        ids = random.permutation(KEYS)[:BATCH]
        hits += store.get_many(keys_of(ids), NOW_MS, NOW_MS, out, ages, versions)
        found = ages >= 0
        seen = versions[found].astype(np.int64)
        assert (out[found] == (seen * KEYS + ids[found])[:, None]).all()
        assert (ages[found] == NOW_MS - seen).all()
        assert (seen >= newest[ids[found]]).all()
        newest[ids[found]] = seen
    assert hits > 0


def disturb(store: EmbeddingCache, is_writing: Callable[[], bool]) -> None:
    random = np.random.default_rng(7)
    keys, written = np.empty((50, 2), np.uint64), np.empty(50, np.int64)
    versions, origins = np.empty(50, np.uint32), np.empty(50, np.uint8)
    cursor = 0
    while is_writing():
        store.touch_many(keys_of(random.integers(0, KEYS, 20)))
        store.invalidate_many(keys_of(random.integers(0, KEYS, 3)))
        n, cursor = store.scan(cursor, keys, written, versions, origins)
        assert (keys[:n, 1] == ~keys[:n, 0]).all() and (origins[:n] == keys[:n, 0] % 2).all()
        assert (written[:n] == versions[:n]).all()
        assert store.check() == []


def run(jobs: list[Callable[[], None]]) -> None:
    """All at once; the first failure is raised here."""
    failures: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("attachments", [1, 2])
def test_readers_and_writers_agree_while_sets_overflow(tmp_path: Path, attachments: int) -> None:
    """`attachments`: with 2, writers and readers meet in the file only."""
    path = tmp_path / "store" if attachments == 2 else None
    store = EmbeddingCache.create(path, capacity=48, dim=DIM, parts=PARTS, dtype="fp32", seed=SEED)
    other = store if path is None else EmbeddingCache.attach(path)
    done = [threading.Event(), threading.Event()]

    def writer(index: int) -> None:
        try:
            write((store, other)[index], index)
        finally:
            done[index].set()

    def is_writing() -> bool:
        return not all(event.is_set() for event in done)

    run(
        [
            lambda: writer(0),
            lambda: writer(1),
            lambda: read(other, 0, is_writing),
            lambda: read(store, 1, is_writing),
            lambda: disturb(store, is_writing),
        ]
    )
    stats = Counter(store.stats())
    if other is not store:
        stats.update(other.stats())
        stats["entries"] //= 2
    assert store.check() == [] and 0 < stats["entries"] <= store.capacity
    written = stats["inserts"] + stats["overwrites"]
    assert written + stats["puts_given_up"] == 2 * ROUNDS * BATCH
    assert stats["puts_given_up"] == stats["puts_busy"] < 0.01 * written
    removed = stats["evictions_live"] + stats["evictions_expired"] + stats["invalidations"]
    assert stats["inserts"] - removed - stats["ways_lost"] == stats["entries"]
    assert stats["misses_raced"] < 0.05 * stats["hits"]


def test_batches_shared_by_worker_threads_race_with_one_another() -> None:
    """Readers of thousands of keys meet at one pool of threads: one gets it, the others go on."""
    store = EmbeddingCache.create(capacity=40_000, dim=8, dtype="fp32", seed=SEED, threads=3)
    ids = np.arange(9_000)
    rows = np.repeat(ids[:, None], 8, axis=1).astype(np.float32)
    assert store.put_many(keys_of(ids), rows, 0, 0, 0) == len(ids)

    def reader(first: int) -> None:
        asked = np.roll(ids, first)
        out, ages = np.empty((len(ids), 8), np.float32), np.empty(len(ids), np.int64)
        for _ in range(30):
            out.fill(-1)
            assert store.get_many(keys_of(asked), 0, 0, out, ages) == len(ids)
            assert (out == asked[:, None]).all() and (ages == 0).all()

    run([partial(reader, first) for first in range(4)])
    assert store.stats()["hits"] == 4 * 30 * len(ids) and store.check() == []


def test_batches_of_many_threads_all_arrive() -> None:
    store = EmbeddingCache.create(capacity=40_000, dim=1, seed=SEED)
    batches = [np.arange(start, start + 1_000) for start in range(0, 8_000, 1_000)]

    def put(ids: NDArray[np.int64]) -> None:
        assert store.put_many(keys_of(ids), np.ones((1_000, 1), np.float32), 0, 0, 0) == 1_000

    run([partial(put, ids) for ids in batches])
    assert store.stats()["entries"] == 8_000 and store.check() == []
