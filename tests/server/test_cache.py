"""The cache against a dictionary: ages, defaults, pending rows, grouping, invalidation."""

import asyncio

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from predawn.server.cache import TableSpec, UserCache
from predawn.server.errors import ConfigError, UnknownName
from predawn.server.request import F32, UserId
from predawn.server.simloop import LoopClock, SimLoop, simulate
from predawn.server.stabilise import compress

SEED = bytes(range(32))


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def monotonic_ns(self) -> int:
        return self.now_ms * 1_000_000

    def wall_ms(self) -> int:
        return self.now_ms


def spec(model: str = "m", average_over: int = 1, dtype: str = "fp16", dim: int = 2) -> TableSpec:
    default = np.full(dim, -1, dtype=np.float32)
    return TableSpec(model, dim, average_over, dtype, 1_000, default)


def cache_of(*specs: TableSpec, flush_rows: int = 256) -> tuple[UserCache, HandClock]:
    clock = HandClock()
    return UserCache(specs or (spec(),), clock, 5, flush_rows, SEED), clock


def rows(*values: float, dim: int = 2) -> F32:
    return np.repeat(np.array(values, dtype=np.float32)[:, None], dim, axis=1)


def test_absent_users_read_the_default_and_age_minus_one() -> None:
    cache, _ = cache_of()
    several: tuple[list[UserId], ...] = ([7], ["7"], [7, "7", 8])
    for users in several:
        reading = cache.read("m", users, 10**9)
        assert (reading.rows == -1).all()
        assert reading.rows.shape == (len(users), 2)
        assert (reading.ages_ms == -1).all()


@pytest.mark.parametrize("written", [False, True])
def test_integer_and_string_ids_never_meet(written: bool) -> None:
    cache, _ = cache_of()
    cache.land("m", [1], rows(3), 1)
    cache.land("m", ["1"], rows(4), 1)
    if written:
        assert cache.flush() == 2
    assert cache.read("m", [1], 0).rows[0, 0] == 3
    assert cache.read("m", ["1"], 0).rows[0, 0] == 4
    assert cache.read("m", ["1", 1, "2", 2], 0).rows[:, 0].tolist() == [4, 3, -1, -1]
    assert cache.check() == []


def test_the_largest_integer_id_is_a_key_like_any_other() -> None:
    cache, _ = cache_of()
    cache.land("m", [2**64 - 1, 0], rows(3, 4), 1)
    cache.flush()
    assert cache.read("m", [2**64 - 1, 0], 0).rows[:, 0].tolist() == [3, 4]


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("average_over", [1, 3])
def test_what_land_returns_is_what_is_read_before_and_after_the_write(
    dtype: str, average_over: int
) -> None:
    cache, _ = cache_of(spec(dtype=dtype, average_over=average_over, dim=5))
    generator = np.random.default_rng(4)
    users: list[UserId] = [1, "a", 2**63]
    for snapshot in range(4):
        raw = generator.normal(size=(3, 5)).astype(np.float32) * 1e5
        served = cache.land("m", users, raw, snapshot)
        for _ in range(2):
            reading = cache.read("m", users, 0)
            assert reading.rows.tobytes() == served.tobytes()
            assert (reading.snapshots == snapshot).all()
            one = cache.read("m", [users[1]], 0)
            assert one.rows.tobytes() == served[1:2].tobytes()
            if snapshot % 2:
                cache.flush()


@pytest.mark.parametrize("written", [False, True])
def test_averages_go_over_pending_and_written_rows_alike(written: bool) -> None:
    cache, _ = cache_of(spec(average_over=3))
    served = []
    for value in (3, 6, 9, 12):
        served.append(float(cache.land("m", [1], rows(value), value)[0, 0]))
        if written:
            cache.flush()
    assert served == [3.0, 4.5, 6.0, 9.0]


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("dtype", ["fp16", "fp32", "bf16", "int8"])
def test_an_exponential_average_needs_only_what_was_served(dtype: str, written: bool) -> None:
    one_part = TableSpec(
        "m", 2, 1, dtype, 1_000, np.zeros(2, dtype=np.float32), 50, average_weight=0.25
    )
    cache, clock = cache_of(one_part)
    expected = 0.0
    for number, value in enumerate((4, 8, 0, 16)):
        clock.now_ms += 50
        served = cache.land("m", [1, "a"], rows(value, value), number)
        expected = value if number == 0 else expected + 0.25 * (value - expected)
        np.testing.assert_allclose(served, expected, rtol=0.02)
        if written:
            cache.flush()
        assert cache.read("m", [1, "a"], 0).rows.tobytes() == served.tobytes()
    clock.now_ms += 51  # too old to be averaged in
    assert cache.land("m", [1], rows(8), 9).tolist() == [[8, 8]]


def test_parts_older_than_the_failover_age_are_not_averaged_in() -> None:
    short = TableSpec("m", 1, 2, "fp32", 100, np.zeros(1, dtype=np.float32), failover_ttl_ms=50)
    cache, clock = cache_of(short)
    cache.land("m", [1], rows(2, dim=1), 1)
    clock.now_ms += 50
    assert cache.land("m", [1], rows(4, dim=1), 1)[0, 0] == 3
    cache.flush()
    clock.now_ms += 51
    assert cache.land("m", [1], rows(8, dim=1), 1)[0, 0] == 8


@pytest.mark.parametrize("written", [False, True])
def test_age_counts_from_landing_and_reads_do_not_renew_it(written: bool) -> None:
    cache, clock = cache_of()
    cache.land("m", [1], rows(3), 1)
    clock.now_ms += 40
    if written:
        cache.flush()
    assert cache.read("m", [1], 100).ages_ms.tolist() == [40]
    clock.now_ms += 60
    assert cache.read("m", [1], 100).ages_ms.tolist() == [100]
    clock.now_ms += 1
    assert cache.read("m", [1], 100).ages_ms.tolist() == [-1]
    assert cache.read("m", [1, 2], 100).rows.tolist() == [[-1, -1], [-1, -1]]


def test_a_clock_that_goes_back_gives_age_zero() -> None:
    cache, clock = cache_of()
    cache.land("m", [1], rows(3), 1)
    clock.now_ms -= 500
    assert cache.read("m", [1], 0).ages_ms.tolist() == [0]


def test_reached_flush_rows_are_written_at_once() -> None:
    cache, _ = cache_of(flush_rows=3)
    cache.land("m", [1, 2], rows(1, 2), 1)
    assert cache.stats()["m"] == {"pending": 2}
    cache.land("m", [3], rows(3), 1)
    stats = cache.stats()["m"]
    assert (stats["pending"], stats["entries"]) == (0, 3)


def test_the_flusher_writes_within_the_flush_delay_and_at_its_end() -> None:
    loop = SimLoop()
    cache = UserCache([spec()], LoopClock(loop, 1_000), 5, 100, SEED)

    async def main() -> None:
        flusher = asyncio.create_task(cache.run())
        await asyncio.sleep(1)
        cache.land("m", [1], rows(1), 1)
        await asyncio.sleep(0.0049)
        assert cache.stats()["m"]["pending"] == 1
        await asyncio.sleep(0.0002)
        assert cache.stats()["m"]["pending"] == 0
        cache.land("m", [2], rows(2), 1)
        await cache.flushed()
        assert cache.stats()["m"]["entries"] == 2
        cache.land("m", [3], rows(3), 1)
        flusher.cancel()
        await asyncio.wait([flusher])
        assert cache.stats()["m"]["entries"] == 3

    simulate(main(), loop)


def test_invalidation_removes_written_and_pending_rows_and_counts_each_user_once() -> None:
    cache, _ = cache_of(spec("a"), spec("b"))
    for model in ("a", "b"):
        cache.land(model, [1, "x", 2], rows(1, 2, 3), 1)
    cache.flush()
    cache.land("a", [1, 5], rows(7, 8), 2)
    told: list[tuple[str, list[UserId]]] = []
    cache.on_invalidate(lambda model, users: told.append((model, list(users))))

    assert cache.invalidate([1, "x", 5, 99, 1], ["a"]) == 3
    assert told == [("a", [1, "x", 5, 99])]
    assert cache.read("a", [1, "x", 5, 2], 10**9).ages_ms.tolist() == [-1, -1, -1, 0]
    assert cache.read("b", [1], 10**9).ages_ms.tolist() == [0]
    assert cache.invalidate([1, "x"], None) == 2
    assert cache.read("b", [1, "x"], 10**9).ages_ms.tolist() == [-1, -1]


def test_invalidating_an_unknown_model_changes_nothing() -> None:
    cache, _ = cache_of()
    cache.land("m", [1], rows(1), 1)
    with pytest.raises(UnknownName, match="did you mean 'm'"):
        cache.invalidate([1], ["m", "mm"])
    assert cache.read("m", [1], 0).ages_ms.tolist() == [0]


def test_a_default_of_the_wrong_length_is_a_config_error() -> None:
    wrong = TableSpec("m", 3, 1, "fp16", 10, np.zeros(2, dtype=np.float32))
    with pytest.raises(ConfigError, match=r"models\.m\.default: has 2 values, the model has 3"):
        cache_of(wrong)


def test_a_replaced_default_is_served_from_then_on_and_what_was_read_stays() -> None:
    cache, _ = cache_of()
    before = cache.read("m", [1], 10).rows
    cache.replace_default("m", np.array([5, 6], np.float32))
    for users in ([1], [1, 2]):
        assert cache.read("m", users, 10).rows[-1].tolist() == [5, 6]
    assert cache.default("m").tolist() == [5, 6] and before.tolist() == [[-1, -1]]
    with pytest.raises(ConfigError, match="has 3 values, the model has 2"):
        cache.replace_default("m", np.zeros(3, np.float32))
    assert cache.default("m").tolist() == [5, 6]


def test_a_served_default_can_be_changed_without_changing_the_default() -> None:
    cache, _ = cache_of()
    cache.read("m", [1], 0).rows[:] = 5
    assert cache.default("m").tolist() == [-1, -1]
    assert cache.read("m", [1], 0).rows[0, 0] == -1


class CacheMachine(RuleBasedStateMachine):
    """Random operations against a dictionary of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.cache, self.clock = cache_of(spec(average_over=2, dtype="fp32"), flush_rows=6)
        self.model: dict[UserId, tuple[float, float, int, int]] = {}  # served, raw, at, snapshot

    users = st.lists(
        st.one_of(st.integers(0, 4), st.sampled_from(["0", "1", "u"])), min_size=1, unique=True
    )

    @rule(users=users, value=st.integers(0, 100), snapshot=st.integers(0, 3))
    def land(self, users: list[UserId], value: int, snapshot: int) -> None:
        self.cache.land("m", users, rows(*[value] * len(users)), snapshot)
        for user in users:
            before = self.model.get(user)
            served = value if before is None else (value + before[1]) / 2
            self.model[user] = (served, value, self.clock.now_ms, snapshot)

    @rule(users=users)
    def invalidate(self, users: list[UserId]) -> None:
        expected = sum(self.model.pop(user, None) is not None for user in users)
        assert self.cache.invalidate(users, None) == expected

    @rule(users=users, max_age_ms=st.sampled_from([0, 3, 10**6]))
    def read(self, users: list[UserId], max_age_ms: int) -> None:
        reading = self.cache.read("m", users, max_age_ms)
        for i, user in enumerate(users):
            entry = self.model.get(user)
            if entry is None or self.clock.now_ms - entry[2] > max_age_ms:
                got = (float(reading.rows[i, 0]), int(reading.ages_ms[i]))
                assert got == (-1.0, -1)
                continue
            assert reading.rows[i, 0] == np.float32(entry[0])
            assert reading.ages_ms[i] == self.clock.now_ms - entry[2]
            assert reading.snapshots[i] == entry[3]

    @rule()
    def flush(self) -> None:
        self.cache.flush()

    @rule(ms=st.integers(0, 4))
    def pass_time(self, ms: int) -> None:
        self.clock.now_ms += ms

    @invariant()
    def sound(self) -> None:
        assert self.cache.check() == []
        assert self.cache.stats()["m"]["pending"] < 6


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_rounding_is_the_stores() -> None:
    cache, _ = cache_of(spec(dim=64))
    raw = (np.random.default_rng(1).normal(size=(50, 64)) * 10 ** np.arange(-9, 5, 14 / 64)).astype(
        np.float32
    )
    served = cache.land("m", list(range(50)), raw, 1)
    cache.flush()
    assert served.tobytes() == compress(raw, "fp16").tobytes()
    assert cache.read("m", list(range(50)), 0).rows.tobytes() == served.tobytes()
