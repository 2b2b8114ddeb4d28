"""Costs by size come with their limit, and what was predicted of them."""

import pytest

from predawn.bench import harness, store_scaling
from predawn.bench.store_tables import SMOKE

MARK = harness.Stamp("store", "abc", "cpu x2")


def test_rows_of_all_sizes_are_read() -> None:
    rows = store_scaling.dims(MARK, SMOKE, harness.SMOKE)
    assert {row.case for row in rows} == set(store_scaling.dim_names(SMOKE))
    assert {"time", "bandwidth"} <= {row.metric for row in rows}


def test_the_residual_is_what_the_prediction_leaves() -> None:
    rows = store_scaling.entries(MARK, SMOKE, harness.SMOKE)
    names = store_scaling.scale_names(SMOKE)
    assert {row.case for row in rows} == set(names)
    for name in names:
        value = {row.metric: row.value for row in rows if row.case == name}
        assert value["residual"] == pytest.approx(value["time"] / value["predicted"] - 1)
    smallest = [row.value for row in rows if row.case == names[0] and row.metric == "residual"]
    assert smallest == [pytest.approx(0.0)]


def test_tables_nobody_wants_are_not_made() -> None:
    names = store_scaling.scale_names(SMOKE)
    rows = store_scaling.entries(MARK, SMOKE, harness.Effort(1, 0.1, only=names[1]))
    assert {row.case for row in rows} == {names[1]}
