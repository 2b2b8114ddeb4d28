"""Speculation on a real server: what requests notice of it, and what it does when things go wrong.

Its costs in process and in the server, every kind of trouble with the model of pairs, traffic that
speculation is of no use for, and p99 with the models' process busy all the time.
"""

import tempfile
from pathlib import Path

from predawn.bench import (
    speculate_books,
    speculate_costs,
    speculate_faults,
    speculate_hostile,
    speculate_p99,
    speculate_share,
)
from predawn.bench.harness import Effort, Row, Stamp


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """All parts, in order."""
    parts = (speculate_share, speculate_faults, speculate_hostile, speculate_p99)
    rows = speculate_costs.rows(mark, smoke=smoke, effort=effort)
    rows += speculate_books.rows(mark, smoke=smoke, effort=effort)
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder:
        for at, part in enumerate(parts):
            effort.progress((at + 1) / (len(parts) + 1))
            rows += part.rows(mark, Path(folder) / str(at), smoke=smoke, effort=effort)
    return rows
