"""A server on a snapshot scores what the training said it would, and is caught when it does not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from predawn.bench.verify import TOLERANCE, VerifyError, verify
from predawn.bench.workload import WorkloadOptions, generate
from predawn.server.models.snapshots import load_snapshot, write_snapshot
from predawn.server.models.training import HOLDOUT_FILE, train
from predawn.server.traces import Trace


def silent(what: str, share: float) -> None:
    """No progress bar."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, Path]:
    """A small trace with an item feature, and models trained on it."""
    trace = generate(WorkloadOptions(users=400, hours=6, seed=3))
    duration = (trace.items % np.uint64(50)).astype(np.float32)[:, None] / 7
    trace = dataclasses.replace(trace, item_features=duration, item_feature_names=("duration_s",))
    out = tmp_path_factory.mktemp("models")
    train(trace, out=out, holdout=0.2, seed=1, max_rows=2_000, epochs=1)
    return trace, out


def test_served_scores_are_the_offline_ones(trained: tuple[Trace, Path], tmp_path: Path) -> None:
    trace, out = trained
    found = verify(out, trace, tmp_path, 40, silent)
    assert found.requests == 40
    assert found.rows > 40
    assert found.agrees
    assert found.difference_max <= TOLERANCE


def test_a_score_that_training_never_gave_is_noticed(
    trained: tuple[Trace, Path], tmp_path: Path
) -> None:
    trace, out = trained
    honest = load_snapshot(out)
    files = {name: honest.read(name) for name in honest.sizes}
    scores = files[HOLDOUT_FILE]["scores"].copy()
    scores[0, 0] += 10 * TOLERANCE
    files[HOLDOUT_FILE] = {**files[HOLDOUT_FILE], "scores": scores}
    other = write_snapshot(tmp_path / "other", files, honest.meta)
    assert not verify(other, trace, tmp_path / "run", 3, silent).agrees


def test_another_trace_is_refused(trained: tuple[Trace, Path], tmp_path: Path) -> None:
    trace, out = trained
    with pytest.raises(VerifyError, match="not trained on this trace"):
        verify(out, trace.slice(0, len(trace) - 100), tmp_path, 3, silent)
