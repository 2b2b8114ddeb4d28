"""What users alike have for an item fills what is absent, and nothing else does."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pytest
from fill_cases import SetClock
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.pair_neighbours import NeighbourLimits, Neighbours
from predawn.server.request import F32, U64
from predawn.server.simloop import SimLoop, simulate

DIM, USER_DIM, HOUR_MS = 6, 5, 3_600_000
Kind = Literal["similar", "clusters"]
KINDS: tuple[Kind, ...] = ("similar", "clusters")


def neighbours(kind: Kind, clock: SetClock, in_thread: bool = False, **limits: Any) -> Neighbours:
    """Small ones."""
    rules = NeighbourLimits(**{"items": 64, "clusters": 4, "directions": 8, **limits})
    return Neighbours(kind, DIM, rules, clock, seed=0, in_thread=in_thread)


def vectors(n: int, seed: int = 0, dim: int = USER_DIM) -> F32:
    """Of users."""
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def items_of(*items: int) -> U64:
    """As the store takes them."""
    return np.array(items, dtype=np.uint64)


def let_it_fit(known: Neighbours, sample: F32) -> None:
    """Tells of users, and has what follows from it done."""
    for vector in sample:
        known.learn(vector)
    known.refresh()


def fitted(kind: Kind, clock: SetClock, **limits: Any) -> Neighbours:
    """With 64 users known."""
    known = neighbours(kind, clock, **limits)
    let_it_fit(known, vectors(64))
    return known


def filled(known: Neighbours, vector: F32, items: U64, missing: Any = None) -> tuple[F32, Any]:
    """Rows, -7 where not filled, and which were."""
    rows = np.full((len(items), DIM), -7, dtype=np.float32)
    mask = np.ones(len(items), np.uint8) if missing is None else np.array(missing, np.uint8)
    found = known.fill(vector, items, rows, mask)
    assert (rows[found == 0] == -7).all()
    return rows, found.tolist()


def add(known: Neighbours, vector: F32, item: int, row: Any, version: int = 1) -> None:
    """One embedding."""
    known.add(1, vector, items_of(item), row[None].astype(np.float32), version)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dim=st.sampled_from((USER_DIM, 96)))
def test_similar_is_exact_where_embeddings_are_linear_in_the_user(seed: int, dim: int) -> None:
    """Also of long vectors, when users differ in a few directions of them."""
    rng = np.random.default_rng(seed)
    known = neighbours("similar", SetClock(), noise=0.001)
    embed = rng.normal(size=(USER_DIM, dim))
    users = (vectors(64, seed) @ embed).astype(np.float32)
    let_it_fit(known, users)
    weights = rng.normal(size=(dim, DIM)) / dim
    for user in users[:40]:
        add(known, user, 9, user @ weights + 3)
    who = (vectors(1, seed + 1)[0] @ embed).astype(np.float32)
    rows, found = filled(known, who, items_of(9))
    expected = who @ weights + 3
    assert found == [1]
    assert np.abs(rows[0] - expected).max() < 0.02 * (1 + np.abs(expected).max())


def test_clusters_fill_with_the_mean_of_the_cluster_alone() -> None:
    known = neighbours("clusters", SetClock())
    sides = np.repeat(np.array([[-9], [9]], np.float32), 64, axis=0) + vectors(128, dim=1)
    let_it_fit(known, sides)
    left, right = sides[0], sides[-1]
    add(known, left, 9, np.zeros(DIM))
    same = [side for side in sides[1:] if filled(known, side, items_of(9))[1] == [1]]
    for value, side in enumerate(same[:3], 1):
        add(known, side, 9, np.full(DIM, value))
    rows, found = filled(known, left, items_of(9, 8))
    assert found == [1, 0]
    assert rows[0, 0] == pytest.approx(1.5, abs=0.01)
    assert filled(known, right, items_of(9))[1] == [0]


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_missing_and_known_is_written(kind: Kind) -> None:
    known = fitted(kind, SetClock())
    vector = vectors(1)[0]
    for item in (1, 2):
        add(known, vector, item, np.ones(DIM))
    assert filled(known, vector, items_of(1, 2, 3), missing=[0, 1, 1])[1] == [0, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_fills_nothing_before_users_are_known_or_of_users_of_another_kind(kind: Kind) -> None:
    known = neighbours(kind, SetClock())
    vector = vectors(1)[0]
    add(known, vector, 1, np.ones(DIM))
    assert filled(known, vector, items_of(1))[1] == [0]
    known = fitted(kind, SetClock())
    add(known, vector, 1, np.ones(DIM))
    longer = np.ones(USER_DIM + 1, dtype=np.float32)
    assert filled(known, longer, items_of(1))[1] == [0]
    assert filled(known, vector, items_of(1))[1] == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_fills_grow_too_old_and_too_light(kind: Kind) -> None:
    clock = SetClock()
    known = fitted(kind, clock, fill_ttl_ms=HOUR_MS)
    vector = vectors(1)[0]
    add(known, vector, 1, np.ones(DIM))
    clock.now_ms += HOUR_MS
    assert filled(known, vector, items_of(1))[1] == [1]
    clock.now_ms += 1
    assert filled(known, vector, items_of(1))[1] == [0]
    known = fitted(kind, clock, half_life_ms=HOUR_MS, least_weight=0.5)
    add(known, vector, 1, np.ones(DIM))
    clock.now_ms += HOUR_MS + 1
    assert filled(known, vector, items_of(1))[1] == [0]


@pytest.mark.parametrize("kind", KINDS)
def test_versions_of_the_pair_model_are_not_mixed(kind: Kind) -> None:
    known = fitted(kind, SetClock())
    vector = vectors(1)[0]
    known.replace_version(1)
    add(known, vector, 1, np.ones(DIM), version=1)
    add(known, vector, 2, np.ones(DIM), version=2)
    assert filled(known, vector, items_of(1, 2))[1] == [1, 0]
    known.replace_version(3, alike=(1,))
    assert filled(known, vector, items_of(1))[1] == [1]
    known.replace_version(4)
    assert filled(known, vector, items_of(1))[1] == [0]
    add(known, vector, 1, np.ones(DIM), version=4)
    assert filled(known, vector, items_of(1))[1] == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_versions_of_user_vectors_are_not_mixed(kind: Kind) -> None:
    known = fitted(kind, SetClock())
    vector = vectors(1)[0]
    for version in (2, 1):
        add(known, vector, 1, np.ones(DIM))
        assert filled(known, vector, items_of(1))[1] == [1]
        known.replace_user_version(version)
        assert not known.report()["ready"]
        let_it_fit(known, vectors(64))
        assert filled(known, vector, items_of(1))[1] == [0]
        known.replace_user_version(version)
        assert known.report()["ready"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_versions_made_together_goes_when_one_of_them_serves_alone(kind: Kind) -> None:
    known = fitted(kind, SetClock())
    vector = vectors(1)[0]
    for version in (1, 2):
        add(known, vector, version, np.ones(DIM), version=version)
    known.replace_version(2, alike=(1,))
    assert filled(known, vector, items_of(1, 2))[1] == [1, 1]
    known.replace_version(2)
    assert filled(known, vector, items_of(1, 2))[1] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_another_length_start_anew_and_broken_ones_are_left_out(kind: Kind) -> None:
    known = fitted(kind, SetClock())
    add(known, vectors(1)[0], 1, np.ones(DIM))
    known.learn(np.full(USER_DIM, np.nan, dtype=np.float32))
    assert known.report()["entries"] == 1
    known.learn(np.ones(USER_DIM + 2, dtype=np.float32))
    assert known.report()["entries"] == 0
    assert not known.report()["ready"]


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_bounded_whoever_comes(kind: Kind) -> None:
    known = fitted(kind, SetClock(), items=16)
    before = known.report()["bytes"]
    users = vectors(50)
    for item in range(2_000):
        add(known, users[item % 50], item, np.ones(DIM))
    report = known.report()
    assert report["bytes"] == before
    assert report["entries"] <= report["capacity"]
    assert report["evictions"] > 0


def test_clusters_outlive_a_refresh_and_directions_only_a_useless_one() -> None:
    for kind in KINDS:
        known = fitted(kind, SetClock())
        users = vectors(64)
        for vector in users:
            add(known, vector, 1, np.ones(DIM))
        let_it_fit(known, vectors(192, seed=5))
        assert known.report()["refreshes"] == 2
        assert sum(filled(known, vector, items_of(1))[1][0] for vector in users) > 50


def test_directions_that_no_longer_tell_users_apart_are_replaced() -> None:
    known = neighbours("similar", SetClock(), directions=2)
    users = np.zeros((64, 8), dtype=np.float32)
    users[:, :2] = vectors(64, dim=2)
    let_it_fit(known, users)
    add(known, users[0], 1, np.ones(DIM))
    others = np.zeros((4_096, 8), dtype=np.float32)
    others[:, 4:6] = vectors(4_096, dim=2)
    let_it_fit(known, others)
    assert known.report()["entries"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_thread_made_of_users_is_put_in_place_on_the_loop(kind: Kind) -> None:
    """The loop goes on reading and writing meanwhile, and drops what was made of users of before a
    change of their model."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))  # one thing after the other
        known = neighbours(kind, SetClock(), in_thread=True)
        task = asyncio.create_task(known.run())
        for vector in vectors(64):
            known.learn(vector)
        await asyncio.sleep(0)  # under way
        known.replace_user_version(1)
        known.replace_user_version(2)
        for vector in vectors(64, seed=1):
            known.learn(vector)
            add(known, vector, 1, np.ones(DIM))
            assert filled(known, vector, items_of(1))[1] == [0]
        assert not known.report()["ready"]
        for _ in range(3):
            await asyncio.to_thread(int)
        assert known.report()["refreshes"] == 1
        add(known, vectors(1)[0], 1, np.ones(DIM))
        assert filled(known, vectors(1)[0], items_of(1))[1] == [1]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_refreshes_without_threads_as_users_come() -> None:
    """In virtual time: at 64 users, and at four times as many."""

    async def main() -> None:
        known = neighbours("similar", SetClock())
        task = asyncio.create_task(known.run())
        refreshes: list[int] = []
        for vector in vectors(256):
            known.learn(vector)
            await asyncio.sleep(1)
            refreshes.append(known.report()["refreshes"])
        assert (refreshes[62], refreshes[63], refreshes[254], refreshes[255]) == (0, 1, 1, 2)
        task.cancel()

    simulate(main(), SimLoop())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_and_calls_give_the_same_fills(kind: Kind) -> None:
    def rows() -> bytes:
        known = fitted(kind, SetClock())
        users = vectors(30, seed=3)
        for at, vector in enumerate(users):
            add(known, vector, at % 5, users[at].repeat(2)[:DIM])
        return filled(known, users[0], items_of(*range(6)))[0].tobytes()

    assert rows() == rows()
