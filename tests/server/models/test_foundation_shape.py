"""Configurations by name, and a shape that survives JSON."""

import json

import pytest

from predawn.server.errors import UnknownName
from predawn.server.models.foundation_shape import (
    CONFIGURATIONS,
    FoundationShape,
    foundation_shape,
    named_foundation,
)


@pytest.mark.parametrize(
    ("name", "width", "head_dim", "layers", "length"),
    [
        ("tiny", 64, 32, 2, 64),
        ("small", 128, 32, 4, 256),
        ("mlperf-like", 512, 128, 5, 1024),
        ("medium", 512, 128, 8, 2048),
        ("large", 2048, 128, 16, 4096),
    ],
)
def test_configurations_have_the_sizes_that_kernels_are_measured_at(
    name: str, width: int, head_dim: int, layers: int, length: int
) -> None:
    shape = named_foundation(name, types=5)
    assert (shape.width, shape.head_dim, shape.layers, shape.length) == (
        *(width, head_dim, layers, length),
    )
    assert shape.tap < shape.layers and shape.dim in (64, 128)


def test_every_shape_comes_back_from_json() -> None:
    for name in CONFIGURATIONS:
        shape = named_foundation(name, types=3, attributes=2, tasks=("click", "like"))
        assert foundation_shape(json.loads(json.dumps(shape.describe()))) == shape


def test_what_is_no_shape_is_refused() -> None:
    with pytest.raises(UnknownName, match="small"):
        named_foundation("smal", types=5)
    described = named_foundation("tiny", types=5).describe()
    with pytest.raises(TypeError):
        foundation_shape(described | {"wings": 2})
    with pytest.raises(KeyError):
        foundation_shape({key: described[key] for key in described if key != "tasks"})
    with pytest.raises(ValueError, match="tap 5"):
        FoundationShape(5, 0, ("click",), 2, 32, layers=4, length=64, tap=5)
