"""The tower's cases run, agree with the network as trained, and are held against a product."""

import math

import pytest
import torch

from predawn.bench import harness, models_tower
from predawn.bench.harness import BenchError

MARK = harness.Stamp("models", "abc", "cpu x2")

torch.set_num_threads(1)


def test_every_size_and_batch_gives_users_a_second() -> None:
    rows = models_tower.rows(MARK, effort=harness.SMOKE, smoke=True)
    rates = {row.case: row for row in rows if row.metric == "users_a_second"}
    assert set(rates) == {
        f"user tower {size}, {users} users"
        for size in models_tower.SIZES
        for users in models_tower.USERS
    }
    assert all(math.isfinite(row.value) and row.value > 0 for row in rates.values())
    assert all(row.ratio and row.share_of_limit and row.limit for row in rates.values())
    times = {row.case: row for row in rows if row.metric == "time"}
    for case, row in rates.items():
        assert row.value * times[case].value == pytest.approx(1e9)


def test_only_the_cases_asked_for_are_made() -> None:
    effort = harness.Effort(rounds=1, slice_ms=0.1, only="small, 16 users")
    rows = models_tower.rows(MARK, effort=effort, smoke=True)
    assert {row.case for row in rows} == {"user tower small, 16 users"}


def test_a_tower_that_computes_something_else_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def seeded(size: str, table_rows: int) -> models_tower.Twins:
        one, other = made("small", 50), made("small", 60)
        return models_tower.Twins(size, one.shape, one.served, other.net, one.prior)

    made = models_tower.twins
    monkeypatch.setattr(models_tower, "twins", seeded)
    with pytest.raises(BenchError, match="something else"):
        models_tower.rows(MARK, effort=harness.SMOKE, smoke=True)


def test_histories_are_as_long_as_the_size_can_use() -> None:
    batch = models_tower.histories(50, 32, seed=0)
    assert batch.items.shape == (50, 32) and batch.lengths.min() >= 16
    assert (batch.ages_ms[:, 0] == 0).all()
