"""The store with many sets: capacity is a bound, answers are exact, a scan misses nobody."""

from collections import Counter

import numpy as np
import pytest
from store_calls import SEED, found, get, ids_in_set, keys_of, put, rows_of, scanned, set_of
from store_twin import STALE, USER_SETS, Entry, StoreTwin, place_of

from predawn.csrc._core import INTEGER, STRING, EmbeddingCache, siphash128

DIM = 2


def store_of(capacity: int, *, dtype: str = "fp32", threads: int = 1) -> EmbeddingCache:
    return EmbeddingCache.create(
        capacity=capacity, dim=DIM, dtype=dtype, seed=SEED, huge_pages=False, threads=threads
    )


def test_hits_are_the_last_row_put_whatever_was_evicted() -> None:
    random = np.random.default_rng(3)
    store = store_of(640)
    newest: dict[int, int] = {}
    for version in range(200):
        ids = random.integers(0, 2_000, random.integers(0, 90))
        put(store, ids, version=version, origin=version % 2)
        newest |= dict.fromkeys(ids.tolist(), version)
        asked = random.integers(0, 2_000, 100)
        rows, ages, *_ = get(store, asked)
        is_found = ages >= 0
        for row, key in zip(rows[is_found], asked[is_found], strict=True):
            assert row.tolist() == [key, newest[int(key)]]
        assert is_found[np.isin(asked, ids[-1:])].all()
    stats = store.stats()
    assert stats["entries"] <= store.capacity and stats["evictions_live"] > 0
    assert stats["inserts"] - stats["evictions_live"] == stats["entries"]
    assert store.check() == []


@pytest.mark.parametrize("origin", [0, 1])
def test_nothing_is_evicted_while_its_set_has_room(origin: int) -> None:
    """A set holds all keys it was given, up to its 14 ways."""
    store = store_of(1_400)
    ids = np.random.default_rng(8).permutation(1_500)
    for start in range(0, 1_500, 100):
        put(store, ids[start : start + 100], origin=origin)
    belong = Counter(set_of(store, int(number)) for number in ids)
    assert max(belong.values()) > 14 > min(belong.values())
    held = Counter(set_of(store, number) for number in scanned(store).ids)
    assert held == {index: min(keys, 14) for index, keys in belong.items()}
    lost = sum(max(0, keys - 14) for keys in belong.values())
    assert store.stats()["evictions_live"] == lost and store.check() == []


def test_sets_that_lead_follow_their_own_rule_and_quota() -> None:
    """Exactly as the twin foretells: of 64 sets three keep CLOCK and eight try a quota of 2."""
    random = np.random.default_rng(11)
    store = store_of(14 * 66)
    twin, counts = StoreTwin(SEED, 66), Counter[str]()
    pool = [
        number for index in (0, 6, 16, 17, 48, 62, 64) for number in ids_in_set(store, index, 30)
    ]
    for now_ms in range(0, 1_500, 3):
        ids = random.choice(pool, 20)
        origin = int(random.integers(0, 2))
        put(store, ids, version=now_ms, now_ms=now_ms, origin=origin)
        for number, row in zip(ids.tolist(), rows_of(ids, DIM, now_ms), strict=True):
            twin.put(Entry((number, 0), row, now_ms, 0, origin), counts)
        known = np.array([entry.key[0] for entry in twin.entries()])
        asked = random.choice(known, 6)
        answer = get(store, asked, now_ms=now_ms, max_age_ms=60)
        twin.accept_age(60)
        states = [twin.get((n, 0), now_ms, 60, 60, counts)[0] for n in asked.tolist()]
        assert answer.states.tolist() == states and set(states) <= {STALE - 1, STALE + 1}
    assert scanned(store).ids == [entry.key[0] for entry in twin.entries()]
    stats = store.stats()
    assert {name: stats[name] for name in counts} == counts
    assert min(counts[f"evictions_{cause}"] for cause in ("expired", "quota", "hand")) > 20
    assert stats["policy_sieve"] == stats["speculative_quota"] == 1


def test_every_way_of_every_set_is_usable() -> None:
    store = store_of(64)
    put(store, range(5_000))
    assert store.stats()["entries"] == store.capacity == 70


def test_a_table_at_half_load_keeps_nearly_everything() -> None:
    store = store_of(20_000)
    put(store, range(10_000))
    assert store.stats()["entries"] > 9_900


@pytest.mark.parametrize("room", [1, 7, 14, 100, 5_000])
def test_scan_sees_everybody_exactly_once(room: int) -> None:
    store = store_of(1_024)
    put(store, range(300))
    assert sorted(scanned(store, room).ids) == list(range(300))


def test_scan_sees_who_stays_exactly_once_while_others_come_and_go() -> None:
    random = np.random.default_rng(5)
    store = store_of(4_096)
    staying, coming = np.arange(600), np.arange(10_000, 10_400)
    put(store, staying)

    def disturb() -> None:
        put(store, random.choice(coming, 40), version=1)
        store.invalidate_many(keys_of(random.choice(coming, 40)))
        put(store, random.choice(staying, 40), version=1)  # an overwrite keeps its place

    seen = scanned(store, 11, disturb)
    assert sorted(number for number in seen.ids if number < 10_000) == staying.tolist()
    assert all(row[0] == number for number, row in zip(seen.ids, seen.rows, strict=True))
    assert store.stats()["evictions_live"] == 0


def test_batches_around_the_depth_of_the_pipeline_answer_every_key() -> None:
    store = store_of(4_096)
    put(store, range(500), version=1)
    for n in (0, 1, 11, 12, 13, 23, 24, 25, 31, 32, 33, 63, 64, 65, 500):
        rows, ages, *_ = get(store, range(n))
        assert (ages == 0).all() and rows[:, 0].tolist() == list(range(n))


def test_worker_threads_answer_as_one_thread_does() -> None:
    ids = np.random.default_rng(2).integers(0, 12_000, 10_000)
    answers = []
    for threads in (1, 4):
        store = store_of(20_000, threads=threads)
        put(store, range(0, 12_000, 2), version=7, now_ms=5, snapshot=3, origin=1)
        answer = get(store, ids, now_ms=9, max_age_ms=8, fresh_ms=2)
        counts = store.stats()
        counts["promotions"] -= counts["hits_speculative"]  # copies of a key may race for it
        answers.append((*(column.tolist() for column in answer), counts["hits"], counts["misses"]))
        assert store.check() == []
    assert answers[0] == answers[1] and answers[0][-2] > 4_000


def test_placement_moves_entries_and_changes_no_answer() -> None:
    users, items = np.arange(1_000) // 20, np.arange(1_000) % 20 + 1
    pairs = np.stack([users, items], axis=1).astype(np.uint64)
    rows = rows_of(np.arange(1_000), DIM)
    spans: dict[str, int] = {}
    for placement in ("hashed", "user_major"):
        store = EmbeddingCache.create(
            capacity=14_000, dim=DIM, dtype="fp32", seed=SEED, placement=placement
        )
        assert store.placement == placement and store.put_many(pairs, rows, 0, 0, 0) == 1_000
        out, ages = np.empty_like(rows), np.empty(1_000, np.int64)
        assert store.get_many(pairs, 0, 0, out, ages) == 1_000 and (out == rows).all()
        strangers = pairs + np.array([0, 100], np.uint64)
        assert store.get_many(strangers, 0, 0, out, ages) == 0
        keys = np.empty((1_000, 2), np.uint64)
        columns = (np.empty(1_000, np.int64), np.empty(1_000, np.uint32), np.empty(1_000, np.uint8))
        assert store.scan(0, keys, *columns)[0] == 1_000 and store.check() == []
        in_order = [place_of((u, i), SEED, 1_000, placement)[0] for u, i in keys.tolist()]
        assert in_order == sorted(in_order)
        near: dict[int, list[int]] = {user: [] for user in range(50)}
        for user, at in zip(keys[:, 0].tolist(), in_order, strict=True):
            near[user].append(at)
        spans[placement] = sum(max(at) - min(at) < USER_SETS for at in near.values())
    assert spans["hashed"] == 0 and spans["user_major"] > 45  # some lie round the end


def test_later_duplicate_of_a_batch_wins() -> None:
    store = store_of(64)
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert store.put_many(keys_of([4, 4, 4]), rows, 0, 0, 0) == 3
    assert (get(store, [4, 4]).rows == [4, 5]).all() and store.stats()["entries"] == 1


def test_both_halves_of_a_key_count() -> None:
    store = EmbeddingCache.create(capacity=64, dim=DIM)
    store.put_many(np.array([[1, 2]], np.uint64), np.ones((1, 2), np.float32), 0, 0, 0)
    for other in ([2, 1], [1, 0], [0, 2], [1, 2**63 + 2]):
        out, ages = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
        assert store.get_many(np.array([other], np.uint64), 0, 9, out, ages) == 0
        assert ages[0] == -1 and (out == 0).all()


def test_seed_decides_where_keys_go() -> None:
    orders = []
    for seed in (SEED, SEED, SEED[::-1], None, None):
        store = EmbeddingCache.create(capacity=1_400, dim=DIM, seed=seed)
        put(store, range(200))
        orders.append(tuple(scanned(store).ids))
        assert found(store, range(200)) == list(range(200))
    assert orders[0] == orders[1] and len(set(orders)) == 4


def test_string_keys_are_siphash_under_the_secret_half_of_the_seed() -> None:
    store = EmbeddingCache.create(capacity=16, dim=1, id_kind=STRING, seed=SEED)
    for text in ("", "u42", "J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg", "a\x00b", "x" * 1_000):
        assert store.key_of_string(text) == siphash128(SEED[16:], text.encode())


def test_tables_without_a_seed_hash_differently() -> None:
    tables = [EmbeddingCache.create(capacity=16, dim=1, id_kind=STRING) for _ in range(2)]
    assert tables[0].key_of_string("u42") != tables[1].key_of_string("u42")
    assert all(len(table.seed) == 32 for table in tables) and tables[0].seed != tables[1].seed


def test_integer_table_has_no_string_keys() -> None:
    store = EmbeddingCache.create(capacity=16, dim=1, id_kind=INTEGER)
    with pytest.raises(ValueError, match="text: this table is keyed by integers"):
        store.key_of_string("u42")


def test_properties_say_what_was_created() -> None:
    store = EmbeddingCache.create(capacity=17, dim=5, parts=3, dtype="int8", id_kind=STRING)
    assert (store.dim, store.parts, store.dtype, store.id_kind) == (5, 3, "int8", STRING)
    assert store.capacity == 28 and store.bytes >= 2 * 16 * (64 + 64) and store.path is None
    assert EmbeddingCache.create(capacity=1, dim=1).dtype == "fp16"
