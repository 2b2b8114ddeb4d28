"""The store with many sets: capacity is a bound, answers are exact, a scan misses nobody."""

import numpy as np
import pytest
from numpy.typing import NDArray

from predawn.csrc._core import INTEGER, STRING, EmbeddingCache, siphash128

SEED = bytes(range(32))
DIM = 2


def keys_of(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    keys = np.zeros((len(ids), 2), np.uint64)
    keys[:, 0] = ids
    return keys


def rows_of(ids: NDArray[np.int64], version: int) -> NDArray[np.float32]:
    return np.stack([ids, np.full(len(ids), version)], axis=1).astype(np.float32)


def read(
    store: EmbeddingCache, ids: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    out, ages = np.zeros((len(ids), DIM), np.float32), np.empty(len(ids), np.int64)
    store.get_many(keys_of(ids), 0, 0, out, ages)
    return out, ages >= 0


def scanned(store: EmbeddingCache, room: int, between: object = None) -> list[int]:
    """The first halves of all keys, in the scan's order; `between` is called after each step."""
    found: list[int] = []
    cursor, done = 0, False
    while not done:
        keys = np.empty((room, 2), np.uint64)
        columns = (np.empty(room, np.int64), np.empty(room, np.uint32), np.empty(room, np.uint8))
        n, cursor = store.scan(cursor, keys, *columns)
        found += keys[:n, 0].tolist()
        done = cursor == 0
        if callable(between):
            between()
    return found


def test_hits_are_the_last_row_put_whatever_was_evicted() -> None:
    random = np.random.default_rng(3)
    store = EmbeddingCache.create(capacity=640, dim=DIM, dtype="fp32", seed=SEED)
    newest: dict[int, int] = {}
    for version in range(200):
        ids = random.integers(0, 2_000, random.integers(0, 90))
        store.put_many(keys_of(ids), rows_of(ids, version), 0, 0, 0)
        newest |= dict.fromkeys(ids.tolist(), version)
        asked = random.integers(0, 2_000, 100)
        out, found = read(store, asked)
        for row, key in zip(out[found], asked[found], strict=True):
            assert row.tolist() == [key, newest[int(key)]]
        assert found[np.isin(asked, ids[-1:])].all()
    stats = store.stats()
    assert stats["entries"] <= 640 and stats["evictions_live"] > 0 and store.check() == []
    assert stats["inserts"] - stats["evictions_live"] == stats["entries"]


def test_every_way_of_every_set_is_usable() -> None:
    store = EmbeddingCache.create(capacity=64, dim=DIM, dtype="fp32", seed=SEED)
    ids = np.arange(5_000)
    store.put_many(keys_of(ids), rows_of(ids, 0), 0, 0, 0)
    assert store.stats()["entries"] == store.capacity == 64


def test_a_table_at_half_load_keeps_nearly_everything() -> None:
    store = EmbeddingCache.create(capacity=20_000, dim=DIM, seed=SEED)
    ids = np.arange(10_000)
    store.put_many(keys_of(ids), rows_of(ids % 2_000, 0), 0, 0, 0)
    assert store.stats()["entries"] > 9_900


@pytest.mark.parametrize("room", [1, 7, 16, 100, 5_000])
def test_scan_sees_everybody_exactly_once(room: int) -> None:
    store = EmbeddingCache.create(capacity=1_024, dim=DIM, seed=SEED)
    ids = np.arange(300)
    store.put_many(keys_of(ids), rows_of(ids, 0), 0, 0, 0)
    assert sorted(scanned(store, room)) == ids.tolist()


def test_scan_sees_who_stays_exactly_once_while_others_come_and_go() -> None:
    random = np.random.default_rng(5)
    store = EmbeddingCache.create(capacity=4_096, dim=DIM, seed=SEED)
    staying, coming = np.arange(600), np.arange(10_000, 10_400)
    store.put_many(keys_of(staying), rows_of(staying, 0), 0, 0, 0)

    def disturb() -> None:
        some = random.choice(coming, 40)
        store.put_many(keys_of(some), rows_of(some, 1), 0, 0, 0)
        store.invalidate_many(keys_of(random.choice(coming, 40)))
        again = random.choice(staying, 40)  # an overwrite keeps its place
        store.put_many(keys_of(again), rows_of(again, 1), 0, 0, 0)

    found = scanned(store, 11, disturb)
    assert sorted(key for key in found if key < 10_000) == staying.tolist()
    assert store.stats()["evictions_live"] == 0


def test_batches_around_the_block_size_answer_every_key() -> None:
    store = EmbeddingCache.create(capacity=4_096, dim=DIM, dtype="fp32", seed=SEED)
    ids = np.arange(500)
    store.put_many(keys_of(ids), rows_of(ids, 1), 0, 0, 0)
    for n in (0, 1, 31, 32, 33, 63, 64, 65, 500):
        out, found = read(store, ids[:n])
        assert found.all() and out[:, 0].tolist() == list(range(n))


def test_later_duplicate_of_a_batch_wins() -> None:
    store = EmbeddingCache.create(capacity=64, dim=DIM, dtype="fp32")
    ids = np.array([4, 4, 4])
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert store.put_many(keys_of(ids), rows, 0, 0, 0) == 3
    out, found = read(store, ids)
    assert found.all() and (out == [4, 5]).all() and store.stats()["entries"] == 1


def test_both_halves_of_a_key_count() -> None:
    store = EmbeddingCache.create(capacity=64, dim=DIM)
    store.put_many(np.array([[1, 2]], np.uint64), np.ones((1, 2), np.float32), 0, 0, 0)
    for other in ([2, 1], [1, 0], [0, 2], [1, 2**63 + 2]):
        out, ages = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
        assert store.get_many(np.array([other], np.uint64), 0, 9, out, ages) == 0
        assert ages[0] == -1 and (out == 0).all()


def test_string_keys_are_siphash_under_the_secret_half_of_the_seed() -> None:
    store = EmbeddingCache.create(capacity=16, dim=1, id_kind=STRING, seed=SEED)
    for text in ("", "u42", "J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg", "a\x00b", "x" * 1_000):
        assert store.key_of_string(text) == siphash128(SEED[16:], text.encode())


def test_tables_without_a_seed_hash_differently() -> None:
    tables = [EmbeddingCache.create(capacity=16, dim=1, id_kind=STRING) for _ in range(2)]
    assert tables[0].key_of_string("u42") != tables[1].key_of_string("u42")


def test_integer_table_has_no_string_keys() -> None:
    store = EmbeddingCache.create(capacity=16, dim=1, id_kind=INTEGER)
    with pytest.raises(ValueError, match="text: this table is keyed by integers"):
        store.key_of_string("u42")


def test_properties_say_what_was_created() -> None:
    store = EmbeddingCache.create(capacity=17, dim=5, parts=3, dtype="fp32", id_kind=STRING)
    assert (store.dim, store.parts, store.dtype, store.id_kind) == (5, 3, "fp32", STRING)
    assert store.capacity == 32 and store.bytes >= 32 * 5 * 3 * 4
    assert EmbeddingCache.create(capacity=1, dim=1).dtype == "fp16"
