"""What is listed is what is there; what is pruned is never the newest, nor half written."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.errors import SnapshotError
from predawn.server.models.catalogue import list_snapshots, pairs_alike, prune_snapshots
from predawn.server.models.loading import FOUNDATION_FILE, RANKER_FILE, ModelSource
from predawn.server.models.snapshots import MANIFEST, load_snapshot, write_snapshot

FILE = "weights.safetensors"


def write(out: Path, count: int = 1) -> Path:
    tensors = {"a": np.arange(6, dtype=np.float32)}
    for _ in range(count):
        path = write_snapshot(out, {FILE: tensors}, {"training": {"rows": 7}})
    return path


def versions(path: Path) -> list[int]:
    return [each.version for each in list_snapshots(path)]


def test_a_version_is_listed_with_its_size_date_and_training(tmp_path: Path) -> None:
    first, second = write(tmp_path), write(tmp_path)
    listed = list_snapshots(tmp_path)
    assert [(each.version, each.path) for each in listed] == [(1, first), (2, second)]
    for each in listed:
        assert each.size_bytes == (each.path / FILE).stat().st_size
        assert each.written_ms == (each.path / MANIFEST).stat().st_mtime_ns // 1_000_000
        assert (dict(each.training), each.problem) == ({"rows": 7}, "")
    assert [each.version for each in list_snapshots(second)] == [2]


def test_what_is_wrong_with_a_version_is_said(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (tmp_path / "000001" / FILE).unlink()
    (tmp_path / "000002" / FILE).write_bytes(b"short")
    (tmp_path / "000003" / MANIFEST).unlink()
    problems = [each.problem for each in list_snapshots(tmp_path)]
    assert problems[0] == f"{FILE} is missing"
    assert problems[1].startswith(f"{FILE} has 5 bytes, the manifest says")
    assert "half written" in problems[2]


def test_nothing_to_list_is_an_error_or_nothing(tmp_path: Path) -> None:
    assert list_snapshots(tmp_path) == []
    with pytest.raises(SnapshotError, match="not a directory"):
        list_snapshots(tmp_path / "absent")


def test_pruning_keeps_the_newest_and_what_is_being_written(tmp_path: Path) -> None:
    write(tmp_path, 4)
    (tmp_path / ".writing-x").mkdir()
    assert [each.version for each in prune_snapshots(tmp_path, 2)] == [1, 2]
    assert prune_snapshots(tmp_path, 2) == []
    assert sorted(each.name for each in tmp_path.iterdir()) == [".writing-x", "000003", "000004"]
    assert load_snapshot(tmp_path).version == 4


def test_a_single_version_and_no_version_cannot_be_asked_for(tmp_path: Path) -> None:
    only = write(tmp_path)
    with pytest.raises(SnapshotError, match="name its parent"):
        prune_snapshots(only, 1)
    with pytest.raises(ValueError, match="at least 1"):
        prune_snapshots(tmp_path, 0)
    assert versions(tmp_path) == [1]


@settings(max_examples=30, deadline=None)
@given(
    whole=st.lists(st.booleans(), min_size=1, max_size=6),
    keep=st.integers(1, 4),
)
def test_as_many_sound_versions_stay_as_asked_for(
    tmp_path_factory: pytest.TempPathFactory, whole: list[bool], keep: int
) -> None:
    out = tmp_path_factory.mktemp("snapshots")
    write(out, len(whole))
    for version, sound in enumerate(whole, 1):
        if not sound:
            (out / f"{version:06d}" / MANIFEST).unlink()
    removed = [each.version for each in prune_snapshots(out, keep)]
    kept = versions(out)
    assert sorted(removed + kept) == list(range(1, len(whole) + 1))
    assert len(whole) in kept
    assert sum(whole[version - 1] for version in kept) == min(keep, sum(whole))
    assert not removed or max(removed) < min(kept)


def test_pairs_of_versions_with_the_same_foundation_model_are_alike(tmp_path: Path) -> None:
    """Versions 1, 2 and 4 have the same weights; 5 cannot be read."""
    for weight in (1, 1, 2, 1, 1):
        foundation = {FOUNDATION_FILE: {"a": np.array([weight], np.float32)}}
        ranker = {RANKER_FILE: {"a": np.random.default_rng(weight).normal(size=3)}}
        write_snapshot(tmp_path, foundation | ranker, {})
    (tmp_path / "000005" / "manifest.json").unlink()
    source = ModelSource("pairs.fm", str(tmp_path))
    alike = {version: set(pairs_alike(source, version)) for version in range(1, 7)}
    same = {1, 2, 4}
    assert alike == {1: same, 2: same, 3: {3}, 4: same, 5: {5}, 6: {6}}
    pinned = ModelSource("pairs.fm", str(tmp_path / "000002"))
    assert pairs_alike(pinned, 2) == {2}
    own = ModelSource("pairs.fm", str(tmp_path), "somebody:pairs")
    assert pairs_alike(own, 2) == {2}
    assert pairs_alike(ModelSource("pairs.fm", program="a.pt2"), 0) == {0}
