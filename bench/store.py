"""The native store: what a read and a write of a batch of keys cost, against limits and peers.

The limit of a read is a native loop over the store's own layout that looks for nothing
(bench/limits_memory.py); of a write, an assignment to numpy rows at known positions. Peers are
given keys of the same kind in the same order. Python's caches hold fewer entries than the store
does, which favours them: their cases say how many. Slices are long: after somebody else's turn a
table of gigabytes takes some ten thousand reads until the caches hold its page tables again.
"""

import gc
from collections.abc import Callable
from dataclasses import replace

from predawn.bench import (
    store_files,
    store_locks,
    store_pairs,
    store_reads,
    store_scaling,
    store_sharing,
    store_writes,
)
from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.store_tables import FULL, SMOKE, Plan

_SLICE_MS = 40.0

Names = Callable[[Plan], list[str]]
Section = Callable[[Stamp, Plan, Effort], list[Row]]

# What a section may time, and the section: one set of tables in memory at a time.
_SECTIONS: tuple[tuple[Names, Section], ...] = (
    (store_reads.names, store_reads.reads),
    (store_reads.native_names, store_reads.native_maps),
    (store_writes.names, store_writes.puts),
    (store_locks.names, store_locks.locks),
    (store_scaling.dim_names, store_scaling.dims),
    (store_scaling.scale_names, store_scaling.entries),
    (store_pairs.names, store_pairs.pairs),
    (store_sharing.names, store_sharing.sharing),
    (store_files.names, store_files.files),
)


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """All sections that have a case that is wanted."""
    plan = SMOKE if smoke else FULL
    effort = effort if smoke else replace(effort, slice_ms=_SLICE_MS)
    wanted = [
        section for names, section in _SECTIONS if any(effort.wants(name) for name in names(plan))
    ]
    rows: list[Row] = []
    for done, section in enumerate(wanted):
        effort.progress(done / len(wanted))
        rows += section(mark, plan, effort)
        gc.collect()  # tables of one section are gone before the next
    return rows
