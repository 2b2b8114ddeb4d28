"""The suite runs whole at smoke size; its figures are those of their definitions."""

import math

import numpy as np
import pytest

from predawn.bench import harness, jolt
from predawn.bench.jolt_scene import Losses

MARK = harness.Stamp("jolt", "abc", "cpu x2")


def test_every_way_to_train_is_served_by_every_policy() -> None:
    shares: list[float] = []
    effort = harness.Effort(rounds=1, slice_ms=0.1, progress=shares.append)
    rows = jolt.run(MARK, smoke=True, effort=effort)
    cases = {row.case for row in rows}
    assert cases == {
        f"{training}, {policy.name}" for training in jolt.TRAININGS for policy in jolt.POLICIES
    }
    assert all(math.isfinite(row.value) and row.n > 0 for row in rows)
    assert shares == sorted(shares) and shares[-1] == 1.0
    by_case = {(row.case, row.metric): row for row in rows}
    for training in jolt.TRAININGS:
        for metric in ("cosine", "cosine_unswapped"):
            assert -1 <= by_case[f"{training}, none", metric].value <= 1
        averaged = by_case[f"{training}, mean of 3", "largest_step"]
        assert averaged.value < by_case[f"{training}, none", "largest_step"].value
    scratch, known = (by_case[f"{name}, none", "cosine"] for name in ("from scratch", "recurring"))
    assert scratch.value < known.value  # other random weights speak another language


def test_the_rise_is_in_units_of_the_entropy_and_its_error_is_that_of_a_ratio() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 9, 4_000)
    plain = Losses(rng.exponential(1.0, 4_000) * rows, rows, clicks=int(rows.sum() // 4))
    more = rng.normal(0.1, 0.5, 4_000) * rows
    swapped = Losses(plain.loss + more, rows, plain.clicks)
    found, error = jolt.rise(swapped, plain)
    assert found == pytest.approx(swapped.normalised - plain.normalised)
    draws = rng.integers(0, 4_000, (400, 4_000))
    resampled = more[draws].sum(axis=1) / rows[draws].sum(axis=1) / plain.entropy
    assert error == pytest.approx(resampled.std(), rel=0.15)
    assert jolt.rise(plain, plain) == (0.0, 0.0)
