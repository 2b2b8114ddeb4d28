"""A foundation model from a snapshot, alone and as the engine runs it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from foundation_cases import SHAPE, foundation, pair_batch
from model_cases import some_users, user_batch

from predawn.server.clock import SystemClock
from predawn.server.engine_thread import ThreadEngine
from predawn.server.errors import ConfigError, SnapshotError
from predawn.server.metrics import Metrics
from predawn.server.models.foundation import foundation_tensors
from predawn.server.models.foundation_model import FoundationModel
from predawn.server.models.loading import (
    FOUNDATION_FILE,
    ModelSource,
    Recipe,
    load_model,
    trained_default,
)
from predawn.server.models.snapshots import write_snapshot
from predawn.server.request import UserBatch, UserId, UserItems

TYPES = ("shown", "clicked", "liked", "hated", "long_view")


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    section = {"shape": SHAPE.describe(), "dim": SHAPE.dim, "default": [0.25] * SHAPE.dim}
    history = {"types": list(TYPES), "attributes": ["age", "income"], "length": 70}
    files = {FOUNDATION_FILE: foundation_tensors(foundation())}
    write_snapshot(tmp_path, files, {"foundation": section, "history": history})
    return tmp_path


def test_a_snapshot_gives_the_model_and_its_default(snapshot: Path) -> None:
    batch = pair_batch([3, 0, 5])
    expected = FoundationModel(foundation()).embed_pairs(batch)
    loaded = load_model(Recipe("pair", ModelSource("pairs.fm", str(snapshot)), types=TYPES))
    assert isinstance(loaded, FoundationModel) and loaded.dim == SHAPE.dim
    np.testing.assert_array_equal(loaded.embed_pairs(batch), expected)
    default = trained_default(str(snapshot), "foundation")
    assert default.tolist() == [0.25] * SHAPE.dim


def test_a_history_of_other_types_is_refused(snapshot: Path) -> None:
    with pytest.raises(SnapshotError, match=r"history\.types"):
        load_model(Recipe("pair", ModelSource("pairs.fm", str(snapshot)), types=("shown",)))


def test_what_embeds_no_pairs_is_refused() -> None:
    source = ModelSource("pairs.fm", factory="factories:counting")
    with pytest.raises(ConfigError, match=r"pairs\.fm\.factory: .*needs a method `embed_pairs"):
        load_model(Recipe("pair", source))


def test_the_engine_runs_it_in_slices_and_tells_what_it_keeps(snapshot: Path) -> None:
    users = user_batch(3, 0, 70)

    def gather(ids: Sequence[UserId]) -> UserBatch:
        return some_users(users, np.array([int(each) for each in ids]))

    batch = pair_batch([3, 4, 2])
    wanted = [
        UserItems(user, batch.item_hashes[batch.offsets[user] : batch.offsets[user + 1]])
        for user in range(3)
    ]
    expected = FoundationModel(foundation()).embed_pairs(batch)
    metrics = Metrics([], [], ["fm"])

    async def main() -> None:
        source = ModelSource("pairs.fm", str(snapshot))
        made = {"fm": Recipe("pair", source, types=TYPES)}
        engine = ThreadEngine(made, gather([0]), gather, SystemClock(), metrics)
        engine.start()
        await engine.ready()
        computed = await engine.pairs("fm", wanted)
        engine.close()
        np.testing.assert_array_equal(computed.rows, expected)
        assert (computed.snapshot, computed.ok.all()) == (1, True)

    asyncio.run(main())
    assert metrics.engine().kept["fm"]["users"] >= 1
