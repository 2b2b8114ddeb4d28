"""A training with a foundation model: what is written, and what is said of it."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from model_cases import small_trace

from predawn.server.errors import ConfigError
from predawn.server.models.foundation_model import FoundationModel
from predawn.server.models.loading import (
    ModelSource,
    Recipe,
    load_model,
    load_ranker,
    trained_default,
)
from predawn.server.models.snapshots import load_snapshot
from predawn.server.models.training import HOLDOUT_FILE, TrainReport, train

TRACE = small_trace(500)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    out = tmp_path_factory.mktemp("snapshots")
    return train(TRACE, out=out, holdout=0.2, seed=0, size="tiny", epochs=2, foundation="tiny")


def test_the_snapshot_holds_three_models_that_load(report: TrainReport) -> None:
    source = ModelSource("m", snapshot=str(report.snapshot))
    pairs = load_model(Recipe("pair", source))
    assert isinstance(pairs, FoundationModel) and pairs.dim == 64
    assert load_ranker(source).tasks == ("click", "like")
    assert np.isfinite(trained_default(str(report.snapshot))).all()
    described = load_snapshot(report.snapshot).section("ranker")
    assert (described["pair"], described["pair_models"]) == (64, 1)


def test_figures_compare_the_ranker_with_and_without_and_the_model_itself(
    report: TrainReport,
) -> None:
    found = report.foundation
    assert found is not None and found.keys() == {"itself", "without", "missing", "gain_kept"}
    for name in ("itself", "without", "missing"):
        assert 0.5 < found[name]["auc"]["click"] <= 1
    assert load_snapshot(report.snapshot).section("figures")["foundation"] == found
    kept = load_snapshot(report.snapshot).read(HOLDOUT_FILE)
    assert np.isfinite(kept["scores"]).all()


def test_the_same_seed_gives_the_same_snapshot(report: TrainReport, tmp_path: Path) -> None:
    again = train(
        TRACE, out=tmp_path, holdout=0.2, seed=0, size="tiny", epochs=2, foundation="tiny"
    )
    assert load_snapshot(again.snapshot).digests == load_snapshot(report.snapshot).digests


def test_a_resumed_snapshot_keeps_its_foundation_model(report: TrainReport, tmp_path: Path) -> None:
    again = partial(
        train, TRACE, out=tmp_path, holdout=0.2, seed=0, epochs=1, resume=report.snapshot
    )
    resumed = again()
    file = "foundation.safetensors"
    one, two = (load_snapshot(each.snapshot) for each in (report, resumed))
    assert one.digests[file] == two.digests[file]
    assert resumed.foundation is not None and resumed.foundation["without"] is None
    with pytest.raises(ConfigError, match="leave it out"):
        again(foundation="tiny")


def test_without_a_foundation_model_nothing_is_different(tmp_path: Path) -> None:
    plain = train(TRACE, out=tmp_path, holdout=0.2, seed=0, size="tiny", epochs=1)
    snapshot = load_snapshot(plain.snapshot)
    assert plain.foundation is None and "foundation" not in snapshot.meta
    assert snapshot.section("ranker")["pair"] == 0
    assert "foundation.safetensors" not in snapshot.sizes
