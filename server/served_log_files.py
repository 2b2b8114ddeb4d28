"""The files of the served-feature log: one Parquet file a write, the oldest removed.

Invariant: a file under its own name is whole, whenever the server ends: it is written beside, and
renamed. All files together, what a killed server left half-written included, stay within the size
limit but for the one being written.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from predawn.server.served_log_columns import SUFFIX, Layout, Seen, batch_of

_PARTIAL = ".partial"
_ROWS_AT_ONCE = 64  # Python's share of a conversion holds the interpreter for so many at most


@dataclass(frozen=True, slots=True)
class FilesLeft:
    """After a write. removed: files that went, this time, for the size limit; bytes: of all."""

    files: int
    bytes: int
    removed: int


class ServedLogFiles:
    """A directory. Names grow with time: `served-<milliseconds>-<process>.parquet`."""

    def __init__(self, directory: Path, layout: Layout, size_limit: int) -> None:
        self._directory = directory
        self._layout = layout
        self._schema = layout.schema()
        self._size_limit = size_limit
        self._newest_ms = 0

    def write(self, seen: Sequence[Seen], now_ms: int) -> FilesLeft:
        """Writes one file of requests. OSError, pyarrow's errors: then none of it is there."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._newest_ms = max(self._newest_ms + 1, now_ms)
        name = f"served-{self._newest_ms:013d}-{os.getpid()}{SUFFIX}"
        partial = self._directory / (name + _PARTIAL)
        try:
            pq.write_table(self._table(seen), partial, compression="zstd")
            partial.rename(self._directory / name)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return self._within_limit()

    def left(self) -> FilesLeft:
        """What is there now."""
        sizes = self._sizes()
        return FilesLeft(len(sizes), sum(sizes.values()), 0)

    def _table(self, seen: Sequence[Seen]) -> Any:
        parts = [
            batch_of(self._layout, seen[first : first + _ROWS_AT_ONCE])
            for first in range(0, len(seen), _ROWS_AT_ONCE)
        ]
        return pa.Table.from_batches(parts, self._schema)

    def _within_limit(self) -> FilesLeft:
        sizes = self._sizes()
        total, removed = sum(sizes.values()), 0
        for path in sorted(sizes):
            if total <= self._size_limit:
                break
            path.unlink(missing_ok=True)
            total -= sizes.pop(path)
            removed += 1
        return FilesLeft(len(sizes), total, removed)

    def _sizes(self) -> dict[Path, int]:
        found: dict[Path, int] = {}
        for path in self._directory.glob(f"served-*{SUFFIX}*"):
            try:
                found[path] = path.stat().st_size
            except FileNotFoundError:
                continue
        return found
