"""The sizes are those of the table, and every size embeds, is kept, and comes back the same."""

import json

import numpy as np
import pytest
import torch
from model_cases import PRIOR, user_batch

from predawn.server.models.user_features import FeatureShape, user_features
from predawn.server.models.user_sizes import (
    HISTORY_LENGTHS,
    depths,
    multiply_adds,
    tower_of_size,
)
from predawn.server.models.user_tower import (
    TowerShape,
    UserTower,
    as_state,
    tower_from_tensors,
    tower_shape,
    tower_tensors,
    trainable_tower,
    untrained_tower,
)

PRIOR_32 = PRIOR.astype(np.float32)


@pytest.mark.parametrize(
    ("size", "tables", "dense", "tokens", "dim"),
    [
        ("tiny", 16, 54, 18, 32),
        ("small", 16, 54, 20, 64),
        ("medium", 64, 256, 72, 384),
        ("large", 512, 1024, 544, 1024),
    ],
)
def test_a_size_is_what_its_table_says(
    size: str, tables: int, dense: int, tokens: int, dim: int
) -> None:
    shape = tower_of_size(size, types=5)
    features = shape.features
    assert (features.tables, features.dense, shape.dim) == (tables, dense, dim)
    assert features.tables + shape.dense_tokens == tokens
    assert features.windows[-1] == HISTORY_LENGTHS[size]
    assert len(set(features.windows)) == len(features.windows)


def test_small_is_the_default() -> None:
    assert tower_of_size("small", types=5) == TowerShape(FeatureShape(types=5, attributes=0))
    with pytest.raises(KeyError):
        tower_of_size("giant", types=5)


@pytest.mark.parametrize("size", ["tiny", "small", "medium", "large"])
def test_every_size_embeds_and_comes_back_from_its_tensors(size: str) -> None:
    shape = tower_of_size(size, types=5, attributes=2, rows=20)
    net = untrained_tower(shape, seed=1)
    tensors = tower_tensors(net, PRIOR_32)
    batch = user_batch(12, history=40)
    out = UserTower(net, PRIOR_32).embed(batch)
    assert out.shape == (12, shape.dim) and np.isfinite(out).all()
    described = json.loads(json.dumps(shape.describe()))
    assert tower_shape(described) == shape
    again = tower_from_tensors(described, tensors, "cpu").embed(batch)
    np.testing.assert_array_equal(again, out)
    further = trainable_tower(described, tensors)
    assert further.bags.weight.dtype == torch.float32
    near = UserTower(further, PRIOR_32).embed(batch)
    np.testing.assert_allclose(near, out, rtol=0, atol=1e-6 * float(np.abs(out).max()))


@pytest.mark.parametrize("size", ["medium", "large"])
def test_inference_is_within_the_tables_rounding_of_the_float64_network(size: str) -> None:
    """The network as trained, in float64, is the truth; the store's fp16 is 5e-4 of a value."""
    shape = tower_of_size(size, types=5, attributes=2, rows=20)
    net = untrained_tower(shape, seed=2)
    batch = user_batch(16, history=40)
    state = as_state(user_features(batch, shape.features, PRIOR))
    with torch.inference_mode():
        truth = untrained_tower(shape, seed=2).double()(state).numpy()
    error = UserTower(net, PRIOR_32).embed(batch) - truth
    bound = {"medium": 1e-4, "large": 1e-2}[size]
    assert 0 < np.sqrt(np.mean(error**2)) <= bound * np.sqrt(np.mean(truth**2))


def test_tables_of_a_larger_size_differ_from_each_other() -> None:
    """No two tables see the same values: else a second one would be a waste."""
    shape = tower_of_size("medium", types=5, attributes=2).features
    slots = user_features(user_batch(200, history=40), shape, PRIOR).slots
    within = np.where(slots > 0, (slots - 1) % shape.rows, -1)
    contents = {within[:, table].tobytes() for table in range(shape.tables)}
    assert len(contents) == shape.tables
    filled = (slots > 0).any(axis=(0, 2))
    assert filled.all()


def test_depths_are_distinct_and_end_where_asked() -> None:
    assert depths(6, 32) == (1, 2, 4, 8, 16, 32)
    assert depths(33, 64)[-1] == 64 and depths(161, 512)[-1] == 512
    assert list(depths(161, 512)) == sorted(set(depths(161, 512)))


def test_multiply_adds_are_those_of_the_products() -> None:
    """Counted by torch while a user goes through."""
    from torch.utils.flop_counter import FlopCounterMode

    shape = tower_of_size("medium", types=5, attributes=2, rows=20)
    net = untrained_tower(shape, seed=0)
    state = as_state(user_features(user_batch(3), shape.features, PRIOR))
    state = state._replace(dense=state.dense.float())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(state)
    taste = 2 * 3 * state.items.shape[1] * shape.output_dim
    got = counter.get_total_flops() - taste
    assert got / 3 == pytest.approx(2 * multiply_adds(shape), rel=0.02)
