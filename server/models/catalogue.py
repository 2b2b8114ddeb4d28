"""The versions in a directory of snapshots: what there is, what is alike, and what may go.

Invariant: a version that is removed vanishes from under its name by one rename before a byte of it
is deleted, so nobody opens half of one; the newest sound version, whatever is newer than it, and
what is still being written are never touched.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predawn.server.errors import SnapshotError
from predawn.server.models.loading import FOUNDATION_FILE, ModelSource
from predawn.server.models.snapshots import (
    MANIFEST,
    Snapshot,
    is_version,
    read_manifest,
    snapshot_directories,
)

_REMOVING = ".removing-"


@dataclass(frozen=True, slots=True)
class Listed:
    """One version on disk. size_bytes: of its files; written_ms: wall clock; training: what the
    training says of itself; problem: why it cannot be loaded, "" when nothing is seen without
    reading the weights."""

    version: int
    path: Path
    size_bytes: int
    written_ms: int
    training: Mapping[str, Any]
    problem: str = ""


def list_snapshots(path: Path | str) -> list[Listed]:
    """All versions below `path` (or the one it is itself), oldest first. Sizes are checked,
    checksums are not. SnapshotError when there is no such directory."""
    return [_listed(version, found) for version, found in snapshot_directories(path).items()]


def pairs_alike(source: ModelSource, version: int) -> frozenset[int]:
    """Versions of a pair model on disk whose embeddings are those of `version`, itself included:
    trained with `--resume`, a foundation model stays byte for byte as it is. Of somebody's own
    models, and of versions that cannot be read, nothing is known. SnapshotError when there is no
    such directory."""
    if source.is_own or not source.snapshot:
        return frozenset({version})
    directories = snapshot_directories(source.snapshot)
    weights = {number: _foundation(found) for number, found in directories.items()}
    wanted = weights.get(version)
    same = (number for number, found in weights.items() if found and found == wanted)
    return frozenset({version, *same})


def _foundation(directory: Path) -> str:
    """SHA-256 of the foundation model, "" where it cannot be told."""
    try:
        return read_manifest(directory).digests.get(FOUNDATION_FILE, "")
    except SnapshotError:
        return ""


def prune_snapshots(path: Path | str, keep: int) -> list[Listed]:
    """Removes all but the newest `keep` (at least 1) sound versions and what is newer than those;
    returns what was removed. SnapshotError when `path` is a version itself or no directory."""
    path = Path(path)
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    listed = list_snapshots(path)
    if is_version(path):
        raise SnapshotError(str(path), "is one version: name its parent directory to prune it")
    sound = [each.version for each in listed if not each.problem]
    if len(sound) <= keep:
        return []
    removed = [each for each in listed if each.version < sound[-keep]]
    for each in removed:
        _remove(each.path)
    return removed


def _listed(version: int, path: Path) -> Listed:
    try:
        snapshot = read_manifest(path)
        written_ms = (path / MANIFEST).stat().st_mtime_ns // 1_000_000
    except (SnapshotError, OSError) as error:
        return Listed(version, path, _bytes_in(path), 0, {}, str(error))
    training = snapshot.meta.get("training")
    told = training if isinstance(training, dict) else {}
    return Listed(version, path, sum(snapshot.sizes.values()), written_ms, told, _fault(snapshot))


def _fault(snapshot: Snapshot) -> str:
    for name, size in snapshot.sizes.items():
        try:
            found = (snapshot.path / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found} bytes, the manifest says {size}"
    return ""


def _bytes_in(path: Path) -> int:
    return sum(each.stat().st_size for each in path.iterdir() if each.is_file())


def _remove(path: Path) -> None:
    going = Path(tempfile.mkdtemp(prefix=_REMOVING, dir=path.parent))
    try:
        path.rename(going / path.name)
    finally:
        shutil.rmtree(going)
