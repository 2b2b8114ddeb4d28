"""Which versions of an aligned model have been loaded, and how each was turned: kept beside the
rows that speak the language of the first, so that a restart goes on in it.

DIRECTORY/MODEL.000007.alignment is a safetensors file: the matrix, or none where the version was
served as it is, and in its header the model, the version, the version it was aligned to and the
SHA-256 of the snapshot's manifest. Invariants: a record appears by one rename, complete, before its
version can be swapped in; one that is damaged, of other weights or of another model is an error
that names the file, never another embedding; a restart takes no version without a record while one
with a record is there.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from predawn.server.errors import ConfigError, SnapshotError
from predawn.server.models.loading import Recipe
from predawn.server.models.snapshots import (
    MANIFEST,
    snapshot_directories,
    snapshot_version,
    sync_directory,
)
from predawn.server.request import F32

_LOG = logging.getLogger(__name__)
_SCHEMA = "predawn-alignment/1"
_REMEDY: Final = "remove the file, and the store's files of the model with it"
_KEPT: Final = 16
"""Records of a model; a server holds three versions."""


@dataclass(frozen=True, slots=True)
class AlignmentRecord:
    """version: of `model`, with the weights of the snapshot whose manifest has this SHA-256;
    aligned_to: the version that was live, 0: served as it is; matrix: float32 [dim, dim], None as
    for 0."""

    model: str
    version: int
    manifest_sha256: str
    aligned_to: int = 0
    matrix: F32 | None = None


def first_version(name: str, recipe: Recipe) -> int:
    """What a start makes live: the newest version on disk; of an aligned model whose rows outlive
    the process the newest that was loaded beside them, said in the log when there are newer ones.
    0 where there is no snapshot. SnapshotError."""
    if not recipe.source.snapshot:
        return 0
    newest = snapshot_version(recipe.source.snapshot)
    recorded = _recorded(name, recipe)
    if newest in recorded:
        return newest
    if not recorded:
        _warn_of_rows(name, recipe, newest)
        return newest
    here = recorded & snapshot_directories(recipe.source.snapshot).keys()
    if not here:
        _LOG.warning(
            "model %s: the store's embeddings are of version %d, which is not there any more: "
            "version %d is served as it is", name, max(recorded), newest
        )  # fmt: skip
        return newest
    _LOG.warning(
        "model %s: starts with version %d; version %d has not been aligned to it: load it and "
        "swap it in", name, max(here), newest
    )  # fmt: skip
    return max(here)


def is_recorded(name: str, recipe: Recipe, version: int) -> bool:
    """Whether there is a record of the version, usable or not."""
    return version in _recorded(name, recipe)


def keep_alignment(
    name: str, recipe: Recipe, version: int, aligned_to: int, matrix: F32 | None
) -> None:
    """Writes the record of a version, where rows outlive the process. ConfigError when it cannot be
    written: swapped in, the version would be another one after a restart."""
    if not recipe.alignments:
        return
    record = AlignmentRecord(name, version, _manifest(recipe, version), aligned_to, matrix)
    directory = Path(recipe.alignments)
    try:
        _write(directory, record)
        for old in sorted(_recorded(name, recipe))[:-_KEPT]:
            _path(directory, name, old).unlink(missing_ok=True)
    except OSError as error:
        reason = f"the alignment of {name} cannot be kept there: {error}"
        raise ConfigError("store.path", reason) from error


def kept_alignment(name: str, recipe: Recipe, version: int) -> F32 | None:
    """The matrix, float32 [dim, dim], that turns a version; None where it is served as it is.
    SnapshotError names a record that cannot be used."""
    if not is_recorded(name, recipe, version):
        return None
    path = _path(Path(recipe.alignments), name, version)
    record = _read(path)
    if (record.model, record.version) != (name, version):
        reason = f"is of version {record.version} of model {record.model!r}: {_REMEDY}"
        raise SnapshotError(str(path), reason)
    if record.manifest_sha256 != _manifest(recipe, version):
        reason = f"is of another snapshot of version {version} than the one there is: {_REMEDY}"
        raise SnapshotError(str(path), reason)
    return record.matrix


def _warn_of_rows(name: str, recipe: Recipe, version: int) -> None:
    """Rows without a record of who made them: `align` is new, or records were removed."""
    if recipe.alignments and any(Path(recipe.alignments).glob(f"{name}.*.store")):
        _LOG.warning(
            "model %s: nothing tells how the versions that made the store's embeddings were "
            "aligned: version %d is served as it is", name, version
        )  # fmt: skip


def _recorded(name: str, recipe: Recipe) -> set[int]:
    """Versions that have a record."""
    directory = Path(recipe.alignments)
    if not recipe.alignments or not directory.is_dir():
        return set()
    pattern = re.compile(re.escape(name) + r"\.([0-9]{6,10})\.alignment")
    found = (pattern.fullmatch(entry.name) for entry in directory.iterdir())
    return {int(each.group(1)) for each in found if each}


def _path(directory: Path, name: str, version: int) -> Path:
    return directory / f"{name}.{version:06d}.alignment"


def _manifest(recipe: Recipe, version: int) -> str:
    """SHA-256 of the manifest, which holds that of every file."""
    directories = snapshot_directories(recipe.source.snapshot)
    if version not in directories:
        raise SnapshotError(recipe.source.snapshot, f"has no version {version}")
    path = directories[version] / MANIFEST
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SnapshotError(str(path), f"cannot be read: {error}") from None


def _write(directory: Path, record: AlignmentRecord) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {} if record.matrix is None else {"matrix": np.ascontiguousarray(record.matrix)}
    descriptor, writing = tempfile.mkstemp(prefix=".writing-", dir=directory)
    try:
        os.close(descriptor)
        save_file(tensors, writing, metadata=_header(record))
        with open(writing, "rb") as file:
            os.fsync(file.fileno())
        os.replace(writing, _path(directory, record.model, record.version))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(writing)
    sync_directory(directory)


def _header(record: AlignmentRecord) -> dict[str, str]:
    fields = {
        "schema": _SCHEMA,
        "model": record.model,
        "version": str(record.version),
        "aligned_to": str(record.aligned_to),
        "manifest_sha256": record.manifest_sha256,
    }
    return fields | {"sha256": _digest(fields, record.matrix)}


def _digest(fields: dict[str, str], matrix: F32 | None) -> str:
    content = b"" if matrix is None else np.ascontiguousarray(matrix).tobytes()
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode() + content).hexdigest()


def _read(path: Path) -> AlignmentRecord:
    try:
        with safe_open(path, "numpy") as file:
            header = dict(file.metadata() or {})
            names = list(file.keys())
            matrix: F32 | None = file.get_tensor("matrix") if "matrix" in names else None
    except (SafetensorError, OSError) as error:
        raise SnapshotError(str(path), f"cannot be read: {error}: {_REMEDY}") from None
    if header.get("schema") != _SCHEMA:
        reason = f"schema is {header.get('schema')!r}, this version reads {_SCHEMA!r}: {_REMEDY}"
        raise SnapshotError(str(path), reason)
    if header.pop("sha256", "") != _digest(header, matrix):
        raise SnapshotError(str(path), f"does not match its SHA-256: {_REMEDY}")
    return AlignmentRecord(
        header["model"],
        int(header["version"]),
        header["manifest_sha256"],
        int(header["aligned_to"]),
        matrix,
    )
