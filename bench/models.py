"""Models on the CPU: layers against torch and numpy, and what the models make of them.

Each part measures one kind of model; see docs/benchmarks.md. torch has one thread, as online work
has in a server, whose other cores are for the work behind it; numpy has what OPENBLAS_NUM_THREADS
says, which `predawn bench` sets to 1. Nothing here is imported before the suite is asked for.
"""

from predawn.bench.harness import Effort, Row, Stamp


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """All parts, in order."""
    import torch

    from predawn.bench import (
        models_foundation,
        models_layers,
        models_ranker,
        models_start,
        models_tower,
    )

    parts = (models_layers, models_ranker, models_tower, models_foundation, models_start)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[Row] = []
    try:
        for done, part in enumerate(parts):
            effort.progress(done / len(parts))
            rows += part.rows(mark, effort=effort, smoke=smoke)
    finally:
        torch.set_num_threads(threads)
    return rows
