"""Where a model's native tables lie: in memory, or as files that outlive the server.

Invariant: a file is used only if it is a sound store of exactly this model's shape; otherwise the
error names file, field and remedy, and the file stays as it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from predawn.csrc import _core
from predawn.server.errors import ConfigError
from predawn.server.request import F32

FOREVER_MS = 2**62
Holds: TypeAlias = Literal["users", "pairs", "invalidated", "means", "recent", "ring"]
_KINDS = {_core.INTEGER: "integer", _core.STRING: "string"}


@dataclass(frozen=True, slots=True)
class TableSpec:
    """How one model is stored. default: float32 [dim], served for absent users;
    average_over: newest vectors averaged (1: off); dtype: "fp16" or "fp32"; capacity: users per id
    kind; failover_ttl_ms: older entries count as absent, also as previous parts of an average;
    average_weight: of the newest vector against what was served before, None: not exponential;
    holds: whose entries they are (embeddings of users or of pairs; beside those of pairs, by user,
    instants of invalidation and what is known by his pairs together)."""

    model: str
    dim: int
    average_over: int
    dtype: str
    capacity: int
    default: F32
    failover_ttl_ms: int = FOREVER_MS
    average_weight: float | None = None
    holds: Holds = "users"


@dataclass(frozen=True, slots=True)
class StorePlace:
    """directory: of the tables' files, "": in this process's memory; huge_pages: take all memory
    of a table at once, on huge pages where the kernel allows."""

    directory: str = ""
    huge_pages: bool = False

    @property
    def is_quick(self) -> bool:
        """A table is made in no time: nothing is committed."""
        return not self.directory and not self.huge_pages

    def file(self, spec: TableSpec, kind: int) -> Path | None:
        """The file of a table, None in memory."""
        if not self.directory:
            return None
        name = spec.model if spec.holds == "users" else f"{spec.model}.{spec.holds}"
        return Path(self.directory) / f"{name}.{_KINDS[kind]}.store"


def attached(spec: TableSpec, place: StorePlace) -> dict[int, _core.EmbeddingCache]:
    """By id kind, the tables that have a file already; ConfigError when one does not fit."""
    files = {kind: place.file(spec, kind) for kind in _KINDS}
    return {kind: _attach(spec, path) for kind, path in files.items() if path and path.exists()}


def opened(spec: TableSpec, place: StorePlace, kind: int, seed: bytes) -> _core.EmbeddingCache:
    """The table of an id kind: the one whose file is there, else a new one. `seed`: of tables in
    memory; a file gets its own. Takes 0.1 s a GiB with huge pages. ConfigError, OSError,
    MemoryError."""
    path = place.file(spec, kind)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return _attach(spec, path)
    try:
        return _create(spec, place, path, kind, seed)
    except _core.StoreError:
        if path is None or not path.exists():
            raise
        return _attach(spec, path)  # another server was faster


def _create(
    spec: TableSpec, place: StorePlace, path: Path | None, kind: int, seed: bytes
) -> _core.EmbeddingCache:
    return _core.EmbeddingCache.create(
        path,
        capacity=spec.capacity,
        dim=spec.dim,
        parts=spec.average_over,
        dtype=spec.dtype,
        id_kind=kind,
        seed=None if path else seed,
        huge_pages=place.huge_pages,
    )


def _attach(spec: TableSpec, path: Path) -> _core.EmbeddingCache:
    """The table at `path`; ConfigError when it is none, or not of this model's shape."""
    try:
        native = _core.EmbeddingCache.attach(path)
    except (_core.StoreError, OSError) as error:
        raise ConfigError("store.path", str(error)) from error
    found = {"dim": native.dim, "average_over": native.parts, "dtype": native.dtype}
    wanted = {"dim": spec.dim, "average_over": spec.average_over, "dtype": spec.dtype}
    if found == wanted and native.capacity >= spec.capacity:
        return native
    native.close()
    held = ", ".join(f"{name} {value}" for name, value in found.items())
    asked = ", ".join(f"{name} {value}" for name, value in wanted.items())
    raise ConfigError(
        "store.path",
        f"{path} holds {held}, capacity {native.capacity}; model {spec.model} needs {asked}, "
        f"capacity {spec.capacity}: remove the file (its embeddings are computed anew) or give "
        "another directory",
    )
