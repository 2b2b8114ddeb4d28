"""Wrong arguments are refused by name."""

from typing import Any

import numpy as np
import pytest

from predawn.csrc._aggregates import ItemAggregates


@pytest.mark.parametrize(
    ("argument", "values"),
    (
        ("items", (0, 1, 1, 1.0)),
        ("features", (8, 0, 1, 1.0)),
        ("features", (8, 257, 1, 1.0)),
        ("dim", (8, 1, 0, 1.0)),
        ("half_life_ms", (8, 1, 1, 0.0)),
        ("noise", (8, 1, 1, 1.0, 0.0)),
        ("noise", (8, 1, 1, 1.0, float("nan"))),
    ),
)
def test_sizes_out_of_bounds_are_refused(argument: str, values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=argument):
        ItemAggregates(*values)


@pytest.mark.parametrize(
    ("argument", "wrong"),
    (
        ("items", np.zeros(2, np.int64)),
        ("features", np.zeros((2, 2), np.float32)),
        ("features", np.zeros((1, 3), np.float32)),
        ("rows", np.zeros((2, 5), np.float32)),
        ("rows", np.zeros((2, 4))),
    ),
)
def test_add_refuses_what_does_not_fit(argument: str, wrong: Any) -> None:
    good: dict[str, Any] = {
        "items": np.zeros(2, np.uint64),
        "features": np.zeros((2, 3), np.float32),
        "rows": np.zeros((2, 4), np.float32),
    }
    table = ItemAggregates(8, 3, 4, 1.0)
    with pytest.raises(ValueError, match=argument):
        table.add(**{**good, argument: wrong}, now_ms=0)


@pytest.mark.parametrize(
    ("argument", "wrong"),
    (
        ("wanted", np.zeros(3, np.uint8)),
        ("features", np.zeros(2, np.float32)),
        ("rows", np.zeros((3, 4), np.float32)),
        ("weights", np.zeros(1, np.float32)),
        ("found", np.zeros(2, np.bool_)),
    ),
)
def test_read_refuses_what_does_not_fit(argument: str, wrong: Any) -> None:
    good: dict[str, Any] = {
        "items": np.zeros(2, np.uint64),
        "wanted": np.zeros(2, np.uint8),
        "features": np.zeros(3, np.float32),
        "rows": np.zeros((2, 4), np.float32),
        "weights": np.zeros(2, np.float32),
        "found": np.zeros(2, np.uint8),
    }
    table = ItemAggregates(8, 3, 4, 1.0)
    with pytest.raises(ValueError, match=argument):
        table.read(**{**good, argument: wrong}, now_ms=0, max_age_ms=1, least_weight=0.0)
