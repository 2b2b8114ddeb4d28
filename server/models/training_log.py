"""`train --from-log`: a ranker learns from what serving really saw, and becomes a snapshot.

The log has embeddings, sources and features of each ranking, misses and fills included; a trace
has what the users did afterwards. Rows are split by time, as in `training`: the latest are held
out, and nothing is learned or counted from a time at or after the first of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from predawn.server.clock import Clock, SystemClock
from predawn.server.models.loading import FOUNDATION_FILE, RANKER_FILE, TOWER_FILE
from predawn.server.models.ranker import Ranker
from predawn.server.models.ranker_training import ranker_tensors
from predawn.server.models.snapshots import Tensors, load_snapshot, write_snapshot
from predawn.server.models.training_fit import FitSettings
from predawn.server.models.training_log_labels import Join
from predawn.server.models.training_log_run import LogPlan, LogRun
from predawn.server.models.training_resume import Start
from predawn.server.served_log_read import ServedRows, ranker_of, read_served, served_log
from predawn.server.traces import Trace

_MODEL_FILES = (TOWER_FILE, FOUNDATION_FILE)

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class LogTrainReport:
    """requests, rows: of the log; labelled: rows of which a label is known; figures: of the
    held-out rows, "auc" and "normalised_entropy", and under "served" the same of the scores that
    were served."""

    ranker: str
    requests: int
    rows: int
    labelled: int
    seconds: float
    figures: dict[str, Any]
    snapshot: Path


def train_from_log(
    log: Path,
    trace: Trace,
    *,
    out: Path,
    holdout: float,
    seed: int,
    join: Join,
    ranker: str | None = None,
    max_rows: int | None = None,
    epochs: int | None = None,
    threads: int = 1,
    size: str | None = None,
    resume: Path | None = None,
    on_progress: Progress = lambda stage, share: None,
    clock: Clock | None = None,
) -> LogTrainReport:
    """Trains a ranker on a served-feature log and writes the next snapshot version below `out`.

    log: the directory; trace: what users did, and the counts of items; holdout: share of the latest
    rows that is measured on; ranker: whose rows, None for the only one; max_rows: of the latest
    ones; resume: a snapshot whose ranker is trained further, and whose other models go into the new
    one as they are; without it the ranker is new, of `size` (None: small), and alone in its
    snapshot. Same log, trace, arguments and machine: the same weights. TraceError names file and
    row of the log; ConfigError where there is nothing to learn from or the parts do not fit.
    """
    clock = clock or SystemClock()
    started_ns = clock.monotonic_ns()
    torch.set_num_threads(threads)
    plan = LogPlan(holdout, seed, join, Start(size, None, resume))
    files = served_log(log)
    name, layout = ranker_of(files, ranker)
    served = read_served(files, name, lambda share: on_progress("reading the log", share))
    if max_rows is not None:
        served = _latest(served, max_rows)
    run = LogRun(served, trace, layout, name, plan)
    settings = FitSettings(epochs=epochs, learning_rate=plan.start.learning_rate)
    net = run.trained(settings, lambda share: on_progress("training", share))
    on_progress("measuring", 0.0)
    tensors = ranker_tensors(net, run.table, run.encoding, run.standard)
    figures = run.measured(Ranker(run.shape, tensors))
    on_progress("measuring", 1.0)
    files_kept, meta = _kept(resume)
    meta |= {"ranker": run.shape.describe(), "figures": figures, "training": run.describe()}
    snapshot = write_snapshot(out, {**files_kept, RANKER_FILE: tensors}, meta)
    return LogTrainReport(
        ranker=name,
        requests=len(served),
        rows=len(served.items),
        labelled=int((~np.isnan(run.labels)).any(axis=1).sum()),
        seconds=(clock.monotonic_ns() - started_ns) / 1e9,
        figures=figures,
        snapshot=snapshot,
    )


def _latest(served: ServedRows, max_rows: int) -> ServedRows:
    """The latest requests, at most so many rows (one request at least)."""
    rows_after = np.cumsum(served.counts[::-1])
    count = max(1, int(np.searchsorted(rows_after, max_rows, side="right")))
    return served.take(np.arange(len(served) - count, len(served), dtype=np.int64))


def _kept(resume: Path | None) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """What the new snapshot has of the one that it goes on from: all but the ranker, and the
    scores kept for `predawn verify`, which are the old ranker's."""
    if resume is None:
        return {}, {}
    snapshot = load_snapshot(resume)
    files = {name: snapshot.read(name) for name in snapshot.sizes if name in _MODEL_FILES}
    return files, dict(snapshot.meta)
