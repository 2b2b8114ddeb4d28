"""Speculation on a real server: what requests notice of it, and what it does when things go wrong.

CPU a request, every kind of trouble with the model of pairs, traffic that speculation is of no use
for, and p99 with the models' process busy all the time.
"""

import tempfile
from pathlib import Path

from predawn.bench import (
    speculate_faults,
    speculate_hostile,
    speculate_p99,
    speculate_share,
)
from predawn.bench.harness import Effort, Row, Stamp


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """All parts, in order."""
    parts = (speculate_share, speculate_faults, speculate_hostile, speculate_p99)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder:
        for at, part in enumerate(parts):
            effort.progress(at / len(parts))
            rows += part.rows(mark, Path(folder) / str(at), smoke=smoke, effort=effort)
    return rows
