"""A packed layer through the Python face: its formula, a row alone, and wrong arguments by name."""

from typing import Any

import numpy as np
import pytest
from layer_cases import ISAS

from predawn.csrc._layers import Panels, matvec
from predawn.server.request import F32


def layer(rows: int, depth: int, columns: int) -> tuple[F32, F32, F32]:
    """x, weights, bias of random values."""
    rng = np.random.default_rng(rows)
    shapes = ((rows, depth), (depth, columns), (1, columns))
    x, weights, bias = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return x, weights, bias[0]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 7, 64])
def test_it_equals_the_formula(isa: str, rows: int) -> None:
    x, weights, bias = layer(rows, 100, 70)
    panels = Panels(weights)
    plain, rectified = (np.full((rows, 70), np.nan, np.float32) for _ in range(2))
    matvec(x, panels, bias, rectified, relu=True, isa=isa)
    matvec(x, panels, None, plain, isa=isa)
    expected = x.astype(np.float64) @ weights
    np.testing.assert_allclose(plain, expected, atol=1e-4)
    np.testing.assert_allclose(rectified, np.maximum(expected + bias, 0), atol=1e-4)


@pytest.mark.parametrize("isa", ISAS)
def test_a_row_stands_alone_bit_by_bit(isa: str) -> None:
    x, weights, bias = layer(19, 130, 33)
    panels = Panels(weights)
    whole, alone = np.empty((19, 33), np.float32), np.empty((1, 33), np.float32)
    matvec(x, panels, bias, whole, isa=isa)
    for row in range(19):
        matvec(x[row : row + 1], panels, bias, alone, isa=isa)
        assert alone.tobytes() == whole[row : row + 1].tobytes()


def test_the_packed_weights_say_their_sizes() -> None:
    panels = Panels(np.zeros((5, 17), np.float32))
    assert (panels.depth, panels.columns, panels.bytes) == (5, 17, 5 * 32 * 4)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"x": np.zeros((2, 4), np.float32)}, "x: expected 3 columns, got 4"),
        ({"x": np.zeros((2, 3))}, "x: expected dtype float32, got float64"),
        ({"bias": np.zeros(3, np.float32)}, "bias: expected 5 values, got 3"),
        ({"out": np.zeros((1, 5), np.float32)}, "out: expected 2 rows, got 1"),
        ({"out": np.zeros((2, 6), np.float32)}, "out: expected 5 columns, got 6"),
        ({"isa": "sse9"}, "isa: this machine does not know"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(changed: dict[str, Any], reason: str) -> None:
    arguments: dict[str, Any] = {
        "x": np.zeros((2, 3), np.float32),
        "panels": Panels(np.zeros((3, 5), np.float32)),
        "bias": None,
        "out": np.zeros((2, 5), np.float32),
    }
    with pytest.raises(ValueError, match=f"^{reason}"):
        matvec(**arguments | changed)
