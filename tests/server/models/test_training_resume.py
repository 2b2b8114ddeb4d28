"""Recurring training: starts at the snapshot's weights and scales, counts anew, and is served."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from model_cases import small_trace

from predawn.server.errors import ConfigError, SnapshotError
from predawn.server.models.loading import RANKER_FILE, TOWER_FILE, ModelSource, load_user_model
from predawn.server.models.snapshots import load_snapshot
from predawn.server.models.training import train
from predawn.server.models.training_resume import Start, resume_from
from predawn.server.models.user_sizes import tower_of_size
from predawn.server.traces import Trace

FIRST, SECOND = small_trace(300, seed=1), small_trace(200, seed=2)


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1, trained on the first trace; tests train the next ones elsewhere."""
    out = tmp_path_factory.mktemp("snapshots")
    train(FIRST, out=out, holdout=0.2, seed=0, epochs=1, size="tiny")
    return out


def resumed(snapshots: Path, out: Path, trace: Trace = SECOND, seed: int = 0) -> Path:
    report = train(trace, out=out, holdout=0.2, seed=seed, epochs=1, resume=snapshots)
    return report.snapshot


def test_the_networks_start_as_the_snapshot_has_them(snapshots: Path) -> None:
    kept = load_snapshot(snapshots)
    weights, ranker_weights = kept.read(TOWER_FILE), kept.read(RANKER_FILE)
    start = resume_from(snapshots, ("click", "like"), ("parity",))
    assert start.tower_shape == tower_of_size("tiny", types=5)
    assert (start.version, start.size, start.length) == (1, "tiny", 32)
    np.testing.assert_array_equal(start.prior, weights["prior"].astype(np.float64))
    tower, ranker = start.networks()
    for name, tensor in tower.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), weights[name])
    for name, parameter in ranker.named_parameters():
        expected = ranker_weights[name.removesuffix(".weight")]
        np.testing.assert_array_equal(parameter.detach().numpy(), expected)
    assert ranker.embedding is tower.items  # shared, as in a first training


def test_the_next_version_learns_on_and_keeps_the_scales(snapshots: Path, tmp_path: Path) -> None:
    before = load_snapshot(snapshots)
    after = load_snapshot(resumed(snapshots, tmp_path))
    scratch = load_snapshot(
        train(SECOND, out=tmp_path, holdout=0.2, seed=0, epochs=1, size="tiny").snapshot
    )
    assert after.section("training")["resumed"] == 1
    assert scratch.section("training")["resumed"] is None
    towers = [each.read(TOWER_FILE) for each in (before, after, scratch)]
    moved = np.abs(towers[1]["head_dense"] - towers[0]["head_dense"]).mean()
    apart = np.abs(towers[2]["head_dense"] - towers[0]["head_dense"]).mean()
    assert 0 < moved < apart
    for name in ("mean", "std", "prior"):
        np.testing.assert_array_equal(towers[1][name], towers[0][name])
    rankers = [each.read(RANKER_FILE) for each in (before, after, scratch)]
    for name in ("encoding.low", "statistics.mean"):
        np.testing.assert_array_equal(rankers[1][name], rankers[0][name])
    for name in ("items.hashes", "items.counts", "items.prior"):  # of the new trace
        np.testing.assert_array_equal(rankers[1][name], rankers[2][name])


def test_what_was_resumed_is_served(snapshots: Path, tmp_path: Path) -> None:
    version = resumed(snapshots, tmp_path)
    assert version == tmp_path / "000001"
    model = load_user_model(ModelSource("m", snapshot=str(tmp_path)))
    assert model.dim == tower_of_size("tiny", types=5).dim
    assert resumed(tmp_path, tmp_path, seed=3) == tmp_path / "000002"


def test_a_trace_that_does_not_fit_the_snapshot_is_named(snapshots: Path, tmp_path: Path) -> None:
    fewer = dataclasses.replace(SECOND, labels={"click": SECOND.labels["click"]})
    with pytest.raises(ConfigError, match="labels click, like, the trace has click"):
        resumed(snapshots, tmp_path, fewer)
    other = dataclasses.replace(SECOND, item_feature_names=("price",))
    with pytest.raises(ConfigError, match="item features parity, the trace has price"):
        resumed(snapshots, tmp_path, other)
    with pytest.raises(SnapshotError, match="is not a directory"):
        resumed(tmp_path / "absent", tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_no_start_is_refused() -> None:
    with pytest.raises(ConfigError, match="'giant' is unknown; use one of tiny, small, medium"):
        Start(size="giant")
    with pytest.raises(ConfigError, match="table_rows: 0 is not positive"):
        Start(table_rows=0)
    with pytest.raises(ConfigError, match="size: is that of the snapshot"):
        Start(size="tiny", resume=Path("snapshots"))
    with pytest.raises(ConfigError, match="table_rows: is that of the snapshot"):
        Start(table_rows=5, resume=Path("snapshots"))


def test_a_size_s_tables_can_have_fewer_rows(tmp_path: Path) -> None:
    """The medium size, whose tables of 8 GB no test can make, and its tables in fp16."""
    trace = SECOND.slice(0, 40)
    report = train(trace, out=tmp_path, holdout=0.2, seed=0, epochs=1, size="medium", table_rows=30)
    kept = load_snapshot(report.snapshot)
    tables = kept.read(TOWER_FILE)["bags.weight"]
    assert tables.shape == (1 + 64 * 30, 64) and tables.dtype == np.float16
    assert kept.section("history")["length"] == 64
    assert kept.section("user_tower")["dim"] == 384
