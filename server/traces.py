"""Traces: logs of ranking requests, read from any of the formats predawn knows.

`read_trace` looks at the content, never at the name: JSON lines (requests, plain events, OTTO
sessions), separated text with a header (KuaiRand), each gzipped or not, and Parquet.
"""

import gzip
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predawn.server.traces_data import Block, Trace, TraceError, Truth, assemble
from predawn.server.traces_lines import read_lines
from predawn.server.traces_tables import is_separated, read_parquet, read_separated
from predawn.server.traces_write import read_truth, write_trace

__all__ = [
    "EVENT_TYPES",
    "Trace",
    "TraceError",
    "Truth",
    "event_types",
    "read_trace",
    "write_trace",
]

EVENT_TYPES = ("shown", "clicked", "liked", "hated", "long_view")
"""What a row of a trace can say about a user and an item."""


def read_trace(path: str | Path) -> Trace:
    """The trace in `path`, with the truth beside it where there is one.

    TraceError names file, line and reason: malformed JSON, missing fields, wrong types, time that
    goes back, empty or doubled items, mixed kinds of ids, a damaged file.
    """
    path = Path(path)
    try:
        blocks = _blocks(path)
    except FileNotFoundError:
        raise TraceError(path, 0, "no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(path, 0, f"cannot be read: {error}") from None
    trace = assemble(blocks)
    return replace(trace, truth=read_truth(path, len(trace)))


def _blocks(path: Path) -> list[Block]:
    with open(path, "rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic == b"PAR1":
            return read_parquet(path)
        if magic[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _text_blocks(path, unpacked)
        return _text_blocks(path, raw)


def _text_blocks(path: Path, lines: Iterable[bytes]) -> list[Block]:
    stream = iter(lines)
    header = next(stream, None)
    if header is None:
        raise TraceError(path, 0, "is empty")
    stream = chain([header], stream)
    if is_separated(header):
        return read_separated(path, stream)
    return read_lines(path, stream)


def event_types(trace: Trace, types: Sequence[str] = EVENT_TYPES) -> NDArray[np.uint16]:
    """What each row becomes in the users' history: uint16 [rows], bit b set for types[b].

    Every row was shown; clicked and long_view are those labels; a "like" label means liked where 1
    and hated where 0 (KuaiRand). Types that the trace says nothing about are never set.
    """
    bits = np.zeros(trace.rows, dtype=np.uint16)
    nothing = np.full(trace.rows, np.nan, dtype=np.float32)
    like = trace.labels.get("like", nothing)
    said = {
        "shown": np.ones(trace.rows, dtype=np.bool_),
        "clicked": trace.clicked,
        "liked": like == 1,
        "hated": like == 0,
        "long_view": trace.labels.get("long_view", nothing) == 1,
    }
    for bit, name in enumerate(types):
        if name in said:
            bits |= said[name].astype(np.uint16) << np.uint16(bit)
    return bits
