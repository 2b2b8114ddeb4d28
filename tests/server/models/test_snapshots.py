"""A snapshot is complete or refused, by the name of the file at fault."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predawn.server.errors import SnapshotError
from predawn.server.models.snapshots import (
    MANIFEST,
    load_snapshot,
    snapshot_version,
    write_snapshot,
)

WEIGHTS: dict[str, np.ndarray[Any, np.dtype[Any]]] = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([7], np.uint64),
}


def write(out: Path) -> Path:
    return write_snapshot(out, {"weights.safetensors": WEIGHTS}, {"part": {"dim": 3}})


def refused(path: Path) -> SnapshotError:
    with pytest.raises(SnapshotError) as caught:
        load_snapshot(path)
    return caught.value


def edit_manifest(directory: Path, **changes: object) -> None:
    manifest = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps(manifest | changes))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    snapshot = load_snapshot(write(tmp_path))
    tensors = snapshot.read("weights.safetensors")
    assert snapshot.version == 1
    assert snapshot.section("part") == {"dim": 3}
    assert tensors["a"].tolist() == WEIGHTS["a"].tolist()
    assert tensors["b"].dtype == np.uint64


def test_a_transposed_array_is_written_in_its_own_order(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, {"t.safetensors": {"t": WEIGHTS["a"].T}}, {})
    assert load_snapshot(path).read("t.safetensors")["t"].tolist() == WEIGHTS["a"].T.tolist()


def test_versions_grow_and_the_parent_opens_the_newest(tmp_path: Path) -> None:
    assert [write(tmp_path).name for _ in range(3)] == ["000001", "000002", "000003"]
    assert load_snapshot(tmp_path).version == 3
    assert snapshot_version(tmp_path) == 3
    assert snapshot_version(tmp_path / "000002") == 2


def test_a_version_is_opened_by_its_number(tmp_path: Path) -> None:
    for _ in range(2):
        write(tmp_path)
    assert load_snapshot(tmp_path, 1).version == load_snapshot(tmp_path / "000001", 1).version == 1
    with pytest.raises(SnapshotError, match=r"no version 7; it has 1, 2$"):
        load_snapshot(tmp_path, 7)
    with pytest.raises(SnapshotError, match=r"no version 1; it has 2; .* name its parent"):
        load_snapshot(tmp_path / "000002", 1)


def test_a_version_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "000001").rename(tmp_path / "000003")
    for version in (None, 3):
        with pytest.raises(SnapshotError, match="says it is version 1, the directory's name"):
            load_snapshot(tmp_path, version)
    (tmp_path / "000003").rename(tmp_path / "best")
    assert load_snapshot(tmp_path / "best").version == 1


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_snapshot(tmp_path, {"w.safetensors": WEIGHTS}, {"not json": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_that_leaves_the_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.\./evil"):
        write_snapshot(tmp_path, {"../evil.safetensors": WEIGHTS}, {})
    path = write(tmp_path)
    entry = {"bytes": 1, "sha256": "0"}
    edit_manifest(path, files={"../../etc/passwd": entry})
    assert "not allowed" in refused(path).reason


def test_a_damaged_newest_version_is_an_error_not_an_older_one(tmp_path: Path) -> None:
    write(tmp_path)
    damaged = write(tmp_path) / "weights.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    error = refused(tmp_path)
    assert error.path == str(damaged)
    assert "SHA-256" in error.reason


def test_a_cut_off_file_is_named_with_both_sizes(tmp_path: Path) -> None:
    damaged = write(tmp_path) / "weights.safetensors"
    size = damaged.stat().st_size
    damaged.write_bytes(damaged.read_bytes()[:-4])
    error = refused(tmp_path)
    assert error.path == str(damaged)
    assert str(size) in error.reason and str(size - 4) in error.reason


@pytest.mark.parametrize("name", [MANIFEST, "weights.safetensors"])
def test_a_missing_file_is_half_written(tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    (path / name).unlink()
    for opened in (path, tmp_path):
        error = refused(opened)
        assert error.path == str(path / name)
        assert "half written" in error.reason


def test_a_write_in_progress_is_not_a_version(tmp_path: Path) -> None:
    (tmp_path / ".writing-x").mkdir()
    assert "half-written" in refused(tmp_path).reason


def test_nothing_there_says_how_to_make_one(tmp_path: Path) -> None:
    assert "predawn train" in refused(tmp_path).reason
    assert "not a directory" in refused(tmp_path / "absent").reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": "other/9"}, "other/9"),
        ({"version": 0}, "version 0"),
        ({"version": True}, "version True"),
        ({"files": []}, '"files"'),
        ({"files": {"w.safetensors": {}}}, "sha256"),
    ],
)
def test_a_foreign_manifest_is_refused(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    path = write(tmp_path)
    edit_manifest(path, **changes)
    assert reason in refused(path).reason


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_a_manifest_that_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path)
    (path / MANIFEST).write_bytes(content)
    assert refused(path).path == str(path / MANIFEST)


def test_reading_what_is_not_there_lists_what_is(tmp_path: Path) -> None:
    snapshot = load_snapshot(write(tmp_path))
    with pytest.raises(SnapshotError, match=r"weights\.safetensors"):
        snapshot.read("ranker.safetensors")
    with pytest.raises(SnapshotError, match="'ranker'"):
        snapshot.section("ranker")


def test_writers_at_the_same_time_get_different_versions(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: write(tmp_path), range(24)))
    assert sorted(path.name for path in paths) == [f"{n:06d}" for n in range(1, 25)]
    assert all(load_snapshot(path).version == int(path.name) for path in paths)
    assert len(list(tmp_path.iterdir())) == 24
