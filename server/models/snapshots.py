"""Snapshots: what training wrote, versioned, checked whole before a byte of it is used.

`OUT/000001/` holds `manifest.json` (schema, version, size and SHA-256 of every file, free `meta`)
and safetensors files; never pickle. Invariants: a version appears under its name by one rename,
complete; versions only grow; a damaged newest version is an error that names the file at fault and
never a silent step back to an older one.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as print_tensors

from predawn.server.errors import SnapshotError
from predawn.server.models.tensor_file import Tensors, read_tensors

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "Snapshot",
    "Tensors",
    "is_version",
    "load_snapshot",
    "read_manifest",
    "snapshot_directories",
    "snapshot_version",
    "sync_directory",
    "write_snapshot",
]

SCHEMA = "predawn-snapshot/1"
MANIFEST = "manifest.json"
_VERSION = re.compile(r"[0-9]{6,9}")
_FILE = re.compile(r"[a-z][a-z0-9_]{0,63}\.safetensors")
_WRITING = ".writing-"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One verified version. `meta` is what `write_snapshot` was given; sizes are in bytes."""

    path: Path
    version: int
    meta: dict[str, Any]
    sizes: dict[str, int]
    digests: dict[str, str]

    def read(self, name: str) -> Tensors:
        """The arrays of one file, checked again as they are read. SnapshotError names the file."""
        if name not in self.sizes:
            have = ", ".join(sorted(self.sizes)) or "none"
            raise SnapshotError(str(self.path / name), f"is not in the snapshot; it has {have}")
        digest = hashlib.sha256()
        with _opened(self.path / name, self.sizes[name]) as file:
            try:
                tensors = read_tensors(file, digest.update)
            except ValueError as error:
                raise SnapshotError(str(self.path / name), f"is not safetensors: {error}") from None
        _check(self.path / name, digest.hexdigest(), self.digests[name])
        return tensors

    def section(self, name: str) -> dict[str, Any]:
        """The object `meta[name]`; SnapshotError when this snapshot has no such part."""
        found = self.meta.get(name)
        if not isinstance(found, dict):
            reason = f"meta has no {name!r}: was it written by `predawn train`?"
            raise SnapshotError(str(self.path / MANIFEST), reason)
        return cast(dict[str, Any], found)


def write_snapshot(
    out: Path, files: Mapping[str, Mapping[str, NDArray[Any]]], meta: Mapping[str, Any]
) -> Path:
    """Writes the next version below `out` (created when absent) and returns its directory.

    files: "name.safetensors" -> arrays by name; meta: anything JSON can say. ValueError for a file
    name that a manifest may not hold. A crash leaves at most a `.writing-*` directory behind.
    """
    for name in files:
        if not _FILE.fullmatch(name):
            raise ValueError(f"file name {name!r} must match {_FILE.pattern}")
    out.mkdir(parents=True, exist_ok=True)
    writing = Path(tempfile.mkdtemp(prefix=_WRITING, dir=out))
    try:
        writing.chmod(0o755)
        contents = {name: print_tensors(_contiguous(tensors)) for name, tensors in files.items()}
        for name, content in contents.items():
            _write_durably(writing / name, content)
        return _publish(writing, out, contents, meta)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def load_snapshot(path: Path | str, version: int | None = None) -> Snapshot:
    """Opens a version, or one below a parent directory (None: the newest), and checks every file.

    SnapshotError names the file or directory at fault and the reason: absent, half written,
    foreign schema, wrong size, wrong checksum, no such version.
    """
    directory = _newest(Path(path)) if version is None else _version(Path(path), version)
    snapshot = read_manifest(directory)
    for name, size in snapshot.sizes.items():
        with _opened(directory / name, size) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        _check(directory / name, found, snapshot.digests[name])
    return snapshot


def snapshot_version(path: Path | str) -> int:
    """The version that `load_snapshot(path)` would open; does not read the weights."""
    return read_manifest(_newest(Path(path))).version


def read_manifest(directory: Path) -> Snapshot:
    """A version as its manifest describes it; no other file is read. SnapshotError, also when the
    directory has the name of another version."""
    snapshot = _from_manifest(directory, _read_manifest(directory / MANIFEST))
    if _VERSION.fullmatch(directory.name) and int(directory.name) != snapshot.version:
        reason = f"says it is version {snapshot.version}, the directory's name says otherwise"
        raise SnapshotError(str(directory / MANIFEST), reason)
    return snapshot


def snapshot_directories(path: Path | str) -> dict[int, Path]:
    """Directories by version, oldest first, whole or not: those below a parent directory, or the
    one that `path` is itself. SnapshotError when it is no directory."""
    path = _existing(Path(path))
    if is_version(path):
        return {snapshot_version(path): path}
    return {version: path / name for version, name in sorted(_versions(path).items())}


def is_version(path: Path) -> bool:
    """Whether `path` is a version itself, rather than the parent of versions."""
    return (path / MANIFEST).is_file() or _VERSION.fullmatch(path.name) is not None


def _version(path: Path, version: int) -> Path:
    versions = snapshot_directories(path)
    if version in versions:
        return versions[version]
    have = ", ".join(map(str, versions)) or "none"
    hint = ""
    if is_version(path):
        hint = "; the setting names one version: name its parent directory to load others"
    raise SnapshotError(str(path), f"has no version {version}; it has {have}{hint}")


def _newest(path: Path) -> Path:
    if is_version(path):
        return _existing(path)
    versions = _versions(_existing(path))
    if not versions:
        left = any(entry.name.startswith(_WRITING) for entry in path.iterdir())
        hint = "only a half-written one; " if left else ""
        raise SnapshotError(str(path), f"holds no snapshot: {hint}run `predawn train --out {path}`")
    return path / versions[max(versions)]


def _existing(path: Path) -> Path:
    if not path.is_dir():
        raise SnapshotError(str(path), "is not a directory; write one with `predawn train --out`")
    return path


def _versions(out: Path) -> dict[int, str]:
    names = [entry.name for entry in out.iterdir() if entry.is_dir()]
    return {int(name): name for name in names if _VERSION.fullmatch(name)}


def _publish(
    writing: Path, out: Path, contents: Mapping[str, bytes], meta: Mapping[str, Any]
) -> Path:
    """Renames into place; another writer that took the number first makes us take the next."""
    version = max(_versions(out), default=0) + 1
    while True:
        manifest = {
            "schema": SCHEMA,
            "version": version,
            "files": {
                name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in contents.items()
            },
            "meta": dict(meta),
        }
        text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
        _write_durably(writing / MANIFEST, text.encode())
        target = out / f"{version:06d}"
        try:
            writing.rename(target)
        except OSError:
            if not target.exists():
                raise
            version += 1
            continue
        sync_directory(out)
        return target


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise SnapshotError(str(path), "is missing: the snapshot is half written") from None
    except (ValueError, OSError) as error:
        raise SnapshotError(str(path), f"cannot be read: {error}") from None
    if not isinstance(parsed, dict):
        raise SnapshotError(str(path), "is not a JSON object: not a predawn snapshot")
    manifest = cast(dict[str, Any], parsed)
    schema = manifest.get("schema")
    if schema != SCHEMA:
        raise SnapshotError(str(path), f"schema is {schema!r}, this version reads {SCHEMA!r}")
    return manifest


def _from_manifest(directory: Path, manifest: dict[str, Any]) -> Snapshot:
    where = str(directory / MANIFEST)
    version, files, meta = (manifest.get(key) for key in ("version", "files", "meta"))
    if type(version) is not int or not 0 < version < 2**32:
        raise SnapshotError(where, f"version {version!r} is not a positive 32-bit integer")
    if not isinstance(files, dict) or not isinstance(meta, dict):
        raise SnapshotError(where, 'needs the objects "files" and "meta"')
    sizes: dict[str, int] = {}
    digests: dict[str, str] = {}
    for name, entry in cast(dict[str, Any], files).items():
        if not _FILE.fullmatch(name):
            raise SnapshotError(where, f"file name {name!r} is not allowed")
        try:
            sizes[name], digests[name] = int(entry["bytes"]), str(entry["sha256"])
        except (TypeError, KeyError, ValueError):
            raise SnapshotError(where, f'{name} needs "bytes" and "sha256"') from None
    return Snapshot(directory, version, cast(dict[str, Any], meta), sizes, digests)


@contextmanager
def _opened(path: Path, size: int) -> Generator[BufferedReader]:
    """The file, when it is there and of that size; what reading it raises is said of it."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                reason = f"has {found} bytes, the manifest says {size}: cut off or replaced"
                raise SnapshotError(str(path), reason)
            yield file
    except FileNotFoundError:
        raise SnapshotError(str(path), "is missing: the snapshot is half written") from None
    except OSError as error:
        raise SnapshotError(str(path), f"cannot be read: {error}") from None


def _check(path: Path, found: str, digest: str) -> None:
    if found != digest:
        raise SnapshotError(str(path), "does not match its SHA-256: damaged or replaced")


def _contiguous(tensors: Mapping[str, NDArray[Any]]) -> Tensors:
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Makes the renames in a directory survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
