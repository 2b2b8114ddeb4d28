"""Crosses and hidden layers in one call equal their formulas, and a row stands alone."""

from typing import Any

import numpy as np
import pytest
from layer_cases import ISAS

from predawn.csrc._layers import CrossNetwork
from predawn.server.request import F32

WIDTH = 20


def weights(seed: int, *shape: int) -> F32:
    """Random, scaled so that values stay of order 1."""
    drawn: F32 = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return drawn / np.float32(shape[0] ** 0.5)


def parts(crosses: int, layers: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
    """Crosses of rank 3, layers of these widths."""
    of_crosses = [
        (weights(c, WIDTH, 3), weights(c + 9, 3, WIDTH), weights(c, WIDTH)) for c in range(crosses)
    ]
    depths = (WIDTH, *layers)
    of_layers = [
        (weights(n, depths[n], columns), weights(n, columns)) for n, columns in enumerate(layers)
    ]
    return of_crosses, of_layers


def by_formula(first: F32, crosses: list[Any], layers: list[Any]) -> Any:
    """In float64."""
    x = first.astype(np.float64)
    for v, u, bias in crosses:
        x = first * (x @ v @ u + bias) + x
    for matrix, bias in layers[:-1]:
        x = np.maximum(x @ matrix + bias, 0)
    matrix, bias = layers[-1]
    return 1 / (1 + np.exp(-np.clip(x @ matrix + bias, -60, 60)))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("crosses", [0, 1, 3])
@pytest.mark.parametrize("layers", [(2,), (7, 1), (40, 17, 3)])
def test_it_equals_the_formula(isa: str, crosses: int, layers: tuple[int, ...]) -> None:
    of_crosses, of_layers = parts(crosses, layers)
    network = CrossNetwork(WIDTH, of_crosses, of_layers, isa)
    assert (network.width, network.tasks) == (WIDTH, layers[-1])
    for rows in (0, 1, 49, 100):
        first = np.random.default_rng(rows).normal(size=(rows, WIDTH)).astype(np.float32)
        out = np.full((rows, layers[-1]), np.nan, np.float32)
        network.run(first, out)
        np.testing.assert_allclose(out, by_formula(first, of_crosses, of_layers), atol=2e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_a_row_stands_alone_bit_by_bit(isa: str) -> None:
    network = CrossNetwork(WIDTH, *parts(2, (16, 2)), isa)
    first = np.random.default_rng(0).normal(size=(61, WIDTH)).astype(np.float32)
    whole, alone = np.empty((61, 2), np.float32), np.empty((1, 2), np.float32)
    network.run(first, whole)
    for row in range(61):
        network.run(first[row : row + 1], alone)
        assert alone.tobytes() == whole[row : row + 1].tobytes()


def test_extremes_stay_in_range_and_nothing_hides_what_is_not_a_number() -> None:
    network = CrossNetwork(WIDTH, *parts(1, (8, 1)))
    first = np.full((3, WIDTH), 1e6, np.float32)
    first[1] *= -1
    first[2, 3] = np.nan
    out = np.empty((3, 1), np.float32)
    network.run(first, out)
    assert ((out[:2] >= 0) & (out[:2] <= 1)).all() and np.isnan(out[2, 0])


@pytest.mark.parametrize(
    ("crosses", "layers", "reason"),
    [
        ([], [], "layers: expected one at least"),
        ([], [(np.zeros((9, 2)), np.zeros(2))], "weights: expected 20 rows, got 9"),
        ([], [(np.zeros((20, 2)), np.zeros(3))], "bias: expected 2 values, got 3"),
        (
            [(np.zeros((20, 4)), np.zeros((5, 20)), np.zeros(20))],
            [(np.zeros((20, 2)), np.zeros(2))],
            "u: expected 4 rows, got 5",
        ),
        (
            [(np.zeros((20, 4)), np.zeros((4, 21)), np.zeros(20))],
            [(np.zeros((20, 2)), np.zeros(2))],
            "u: expected 20 columns, got 21",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(crosses: Any, layers: Any, reason: str) -> None:
    def single(group: Any) -> Any:
        return [tuple(each.astype(np.float32) for each in part) for part in group]

    with pytest.raises(ValueError, match=f"^{reason}"):
        CrossNetwork(WIDTH, single(crosses), single(layers))
