"""`train`: from a trace to a snapshot, with figures measured the way the server serves.

Rows are split by time. Everything learned or counted comes from before the split; a held-out row
sees its user's own earlier rows, held out or not, because a server would have them by then.
Held-out scores take the serving path: tower in inference, rounding to the store's fp16, numpy
ranker. They are kept in the snapshot (`holdout.safetensors`), so that a running server can be held
to them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from predawn.server.clock import Clock, SystemClock
from predawn.server.errors import ConfigError
from predawn.server.models.loading import RANKER_FILE, TOWER_FILE
from predawn.server.models.snapshots import Tensors, load_snapshot, write_snapshot
from predawn.server.models.training_examples import Examples
from predawn.server.models.training_fit import FitSettings, fit
from predawn.server.models.training_pairs import (
    PairPart,
    PairPlan,
    kept_pair_part,
    train_pair_part,
)
from predawn.server.models.training_resume import Start
from predawn.server.models.training_run import Run
from predawn.server.models.training_served import Served, measure
from predawn.server.models.user_tower import tower_tensors
from predawn.server.traces import Trace

HOLDOUT_FILE = "holdout.safetensors"
_PAIR_SAMPLE = 1024  # requests whose pairs give the default embedding

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class TrainReport:
    """rows: of the trace that were learned from or held out; auc: by label, of the held-out rows
    (labels with one class only are left out); normalised_entropy: of the first label; foundation:
    `compare` where there is a foundation model, and then the others are with all of its pairs."""

    rows: int
    seconds: float
    auc: dict[str, float]
    normalised_entropy: float | None
    snapshot: Path
    foundation: dict[str, Any] | None = None


def train(
    trace: Trace,
    *,
    out: Path,
    holdout: float,
    seed: int,
    max_rows: int | None = None,
    epochs: int | None = None,
    threads: int = 1,
    size: str | None = None,
    table_rows: int | None = None,
    resume: Path | None = None,
    learning_rate: float | None = None,
    foundation: str | None = None,
    on_progress: Progress = lambda stage, share: None,
    clock: Clock | None = None,
) -> TrainReport:
    """Trains tower and ranker and writes the next snapshot version below `out`.

    holdout: share of the latest rows that is measured on, 0 .. 0.9; max_rows: learn from the latest
    rows only (histories and item counts still come from all); epochs: None for the default;
    threads: CPU threads of torch; size: of tower and ranker (`user_sizes`), None for small;
    table_rows: of each embedding table, None for the size's; resume: a snapshot whose weights are
    trained further (`training_resume`), which then says the size; learning_rate: None for a first
    training's, or a quarter of it; foundation: the configuration of a foundation model to be
    trained as well (`foundation_shape`), whose pair embeddings the ranker then reads; a resumed one
    stays as it is; on_progress(stage, share done).
    Same trace, arguments and machine: the same weights. ConfigError when there is nothing to learn
    from, or where the snapshot does not fit the trace.
    """
    clock = clock or SystemClock()
    started_ns = clock.monotonic_ns()
    torch.set_num_threads(threads)
    start = Start(size, table_rows, resume)
    run = Run(trace, holdout, seed, max_rows, start)
    settings = FitSettings(epochs=epochs, learning_rate=learning_rate or start.learning_rate)
    on_progress("features", 0.0)
    examples = run.examples()
    on_progress("features", 1.0)
    pairs, without = _pair_part(run, examples, settings, foundation, start, on_progress)
    if pairs is not None:
        run.read_pairs(pairs.net.shape.dim)
        examples = pairs.with_pairs(examples)
        pairs.count_to(run.split.row_cut)
    tower, ranker = run.networks(examples)
    fit(tower, ranker, examples, settings, seed, lambda share: on_progress("training", share))
    on_progress("measuring", 0.0)
    served = Served(run, tower, ranker, pairs)
    rows, scores = served.held_out()
    figures = measure(run.labels[rows], scores, run.tasks)
    if pairs is not None:
        figures["foundation"] = served.compare(pairs, without, figures)
    on_progress("measuring", 1.0)
    files: dict[str, Tensors] = {
        TOWER_FILE: tower_tensors(tower, run.prior.astype("float32")),
        RANKER_FILE: served.ranker_tensors,
        HOLDOUT_FILE: {"rows": rows, "scores": scores},
    }
    meta = run.describe(tower, ranker, served.default()) | {"figures": figures}
    snapshot = write_snapshot(out, *_with_pair_part(files, meta, pairs, run))
    return TrainReport(
        rows=run.rows,
        seconds=(clock.monotonic_ns() - started_ns) / 1e9,
        auc=figures["auc"],
        normalised_entropy=figures["normalised_entropy"],
        snapshot=snapshot,
        foundation=figures.get("foundation"),
    )


def _with_pair_part(
    files: dict[str, Tensors], meta: dict[str, Any], pairs: PairPart | None, run: Run
) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """What the snapshot holds, the foundation model included where there is one."""
    if pairs is None:
        return files, meta
    return files | pairs.files, meta | pairs.describe(run.newest()[-_PAIR_SAMPLE:])


def _pair_part(
    run: Run,
    examples: Examples,
    settings: FitSettings,
    name: str | None,
    start: Start,
    on_progress: Progress,
) -> tuple[PairPart | None, dict[str, Any] | None]:
    """The foundation model, if any, and how the ranker does without it (when it is new)."""
    if start.resume is not None:
        if name is not None:
            raise ConfigError("foundation", "stays as the snapshot to resume has it: leave it out")
        return kept_pair_part(load_snapshot(start.resume), run.trace, run.labels), None
    if name is None:
        return None, None
    plan = PairPlan(name, run.tasks, run.learned_rows(), run.seed, settings.epochs)
    tower, ranker = run.networks(examples)
    fit(tower, ranker, examples, settings, run.seed, lambda share: on_progress("without", share))
    rows, scores = Served(run, tower, ranker).held_out()
    without = measure(run.labels[rows], scores, run.tasks)
    pairs = train_pair_part(
        plan, run.trace, run.labels, lambda share: on_progress("foundation", share)
    )
    return pairs, without
