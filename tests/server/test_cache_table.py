"""One model's table: lazy native tables, grouped writes, shared keys, exact counts."""

import numpy as np
import pytest

from predawn.csrc import _core
from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.cache_table import ModelTable
from predawn.server.request import F32, UserId

SEED = bytes(range(32))


def table(average_over: int = 1, capacity: int = 1_000) -> ModelTable:
    default = np.zeros(2, dtype=np.float32)
    return ModelTable(
        TableSpec("m", 2, average_over, "fp32", capacity, default), SEED, StorePlace()
    )


def rows(*values: float) -> F32:
    return np.repeat(np.array(values, dtype=np.float32)[:, None], 2, axis=1)


class CountingTable:
    """A native table that remembers its writes."""

    def __init__(self, native: _core.EmbeddingCache) -> None:
        self.native = native
        self.writes: list[tuple[int, int, int]] = []  # rows, instant, snapshot

    def __getattr__(self, name: str) -> object:
        return getattr(self.native, name)

    def put_many(self, keys: object, rows: F32, now_ms: int, snapshot: int, origin: int) -> int:
        self.writes.append((len(rows), now_ms, snapshot))
        return self.native.put_many(keys, rows, now_ms, snapshot, origin)  # type: ignore[arg-type]


def test_native_tables_are_made_for_the_id_kinds_that_are_written() -> None:
    one = table()
    assert one.read_one(1, 0, 10).ages_ms[0] == -1
    assert "capacity" not in one.stats()
    one.land([1], rows(1), 0, 0)
    one.flush()
    capacity = one.stats()["capacity"]
    one.land(["1"], rows(1), 0, 0)
    one.flush()
    assert one.stats()["capacity"] == 2 * capacity
    assert one.stats()["entries"] == 2


def test_a_flush_writes_one_group_per_instant_and_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[CountingTable] = []

    class Counting:
        @staticmethod
        def create(path: object, **shape: object) -> CountingTable:
            native = _core_create(path, **shape)  # type: ignore[arg-type]
            made.append(CountingTable(native))
            return made[-1]

    _core_create = _core.EmbeddingCache.create
    monkeypatch.setattr(_core, "EmbeddingCache", Counting)
    one = table()
    one.land([1, 2, 3], rows(1, 2, 3), snapshot=1, now_ms=10)
    one.land([4], rows(4), snapshot=2, now_ms=10)
    one.land([5, 1], rows(5, 6), snapshot=2, now_ms=11)
    assert one.flush() == 5
    assert one.flush() == 0
    assert made[0].writes == [(2, 11, 2), (2, 10, 1), (1, 10, 2)]
    reading = one.read([1, 2, 3, 4, 5], 12, 100)
    assert reading.rows[:, 0].tolist() == [6, 2, 3, 4, 5]
    assert reading.ages_ms.tolist() == [1, 2, 2, 2, 1]
    assert reading.snapshots.tolist() == [2, 1, 1, 2, 2]


@pytest.mark.parametrize("user", [5, "five"])
def test_one_user_is_read_as_in_a_batch(user: UserId) -> None:
    one = table(average_over=3)
    for written in (False, True):
        one.land([user], rows(3), snapshot=9, now_ms=100)
        if written:
            one.flush()
        single, batch = one.read_one(user, 150, 60), one.read([user, 77], 150, 60)
        assert single.rows.tobytes() == batch.rows[:1].tobytes()
        assert (single.ages_ms[0], single.snapshots[0]) == (50, 9)
        assert (batch.ages_ms[0], batch.snapshots[0]) == (50, 9)


def test_memory_is_bounded_by_the_capacity() -> None:
    one = table(capacity=64)
    for start in range(0, 4_096, 64):
        one.land(list(range(start, start + 64)), rows(*range(64)), 0, start)
        one.flush()
    stats = one.stats()
    assert stats["entries"] <= stats["capacity"] < 256
    assert one.check() == []


def test_a_seed_makes_string_keys_the_same_in_every_table_of_a_store() -> None:
    first, second = table(), table()
    for one in (first, second):
        one.land(["u"], rows(1), 0, 0)
        one.flush()
    keys = [one.make(_core.STRING).key_of_string("u") for one in (first, second)]
    assert keys[0] == keys[1]
