"""The foundation model's figures: histories are encoded once, extended, and FLOP are counted."""

import numpy as np
import pytest
from gpu_host_rig import host_rig

from predawn.bench.gpu_model import (
    Load,
    flop_of_event,
    flop_of_row,
    model_rows,
    pairs_of,
    past_of,
)
from predawn.bench.gpu_timer import Ceilings
from predawn.bench.harness import Stamp
from predawn.server.models.foundation_model import FoundationModel, untrained_foundation
from predawn.server.models.foundation_shape import named_foundation

SHAPE = named_foundation("tiny", types=4)
LOAD = Load(users=2, candidates=3)


def test_rows_of_one_size() -> None:
    rows = model_rows(
        *(host_rig(), Stamp("gpu", "", ""), Ceilings(1e10, 1e10)), sizes=("tiny",), load=LOAD
    )
    found = {row.metric: row for row in rows}
    assert list(found) == ["tokens_encoded", "users_extended", "pairs"]
    for row in found.values():
        assert row.value > 0 and row.better == "higher" and row.unit == "/s"
        assert row.share_of_limit == pytest.approx(row.value / (row.limit or 0))


def test_more_events_of_a_seed_extend_what_is_kept() -> None:
    model = FoundationModel(untrained_foundation(SHAPE, seed=0))
    model.encode(past_of(SHAPE, LOAD, 3, 20))
    before = model.kept()
    model.encode(past_of(SHAPE, LOAD, 3, 30))
    model.embed_pairs(pairs_of(SHAPE, LOAD, 3, 30))
    after = model.kept()
    assert after["users"] == before["users"] == 2
    assert after["tokens_encoded"] == before["tokens_encoded"] == 2 * 20
    assert after["tokens_extended"] == 2 * 10


def test_other_seeds_are_other_users() -> None:
    one, other = past_of(SHAPE, LOAD, 1, 20), past_of(SHAPE, LOAD, 2, 20)
    assert not set(one.users.tolist()) & set(other.users.tolist())
    assert not np.array_equal(one.items, other.items)


def test_flop_of_a_row_are_its_products() -> None:
    width, keys = SHAPE.width, 100
    projections = 2 * width * 4 * width + 2 * width * width
    assert flop_of_row(SHAPE, keys) == projections + 2 * 2 * keys * width
    last = 2 * width * 2 * width  # its key and its value
    assert flop_of_event(SHAPE, keys) == (SHAPE.tap - 1) * flop_of_row(SHAPE, keys) + last
