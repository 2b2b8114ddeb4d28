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

import numpy as np
import torch

from predawn.server.clock import Clock, SystemClock
from predawn.server.errors import ConfigError
from predawn.server.models.loading import RANKER_FILE, TOWER_FILE
from predawn.server.models.ranker import Ranker, RankerShape
from predawn.server.models.ranker_training import RankerNet, ranker_tensors, untrained_ranker
from predawn.server.models.snapshots import Tensors, write_snapshot
from predawn.server.models.training_data import Split, UserPast, known_labels, split_by_time
from predawn.server.models.training_examples import (
    Examples,
    Items,
    fit_items,
    make_examples,
    states_of,
)
from predawn.server.models.training_fit import FitSettings, fit
from predawn.server.models.training_metrics import auc, normalised_entropy
from predawn.server.models.training_resume import Resumed, Start
from predawn.server.models.user_features import F64, UserFeatures
from predawn.server.models.user_sizes import HISTORY_LENGTHS, tower_of_size
from predawn.server.models.user_tower import (
    TowerNet,
    UserTower,
    tower_tensors,
    untrained_tower,
)
from predawn.server.request import F32, I64, RankBatch, Source
from predawn.server.stabilise import compress
from predawn.server.traces import EVENT_TYPES, Trace, event_types
from predawn.server.traces_data import jagged_rows

HOLDOUT_FILE = "holdout.safetensors"
_CHUNK = 4096
_DEFAULT_SAMPLE = 8192

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class TrainReport:
    """rows: of the trace that were learned from or held out; auc: by label, of the held-out rows
    (labels with one class only are left out); normalised_entropy: of the first label."""

    rows: int
    seconds: float
    auc: dict[str, float]
    normalised_entropy: float | None
    snapshot: Path


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
    on_progress: Progress = lambda stage, share: None,
    clock: Clock | None = None,
) -> TrainReport:
    """Trains tower and ranker and writes the next snapshot version below `out`.

    holdout: share of the latest rows that is measured on, 0 .. 0.9; max_rows: learn from the latest
    rows only (histories and item counts still come from all); epochs: None for the default;
    threads: CPU threads of torch; size: of tower and ranker (`user_sizes`), None for small;
    table_rows: of each embedding table, None for the size's; resume: a snapshot whose weights are
    trained further (`training_resume`), which then says the size; learning_rate: None for a first
    training's, or a quarter of it; on_progress(stage, share done).
    Same trace, arguments and machine: the same weights. ConfigError when there is nothing to learn
    from, or where the snapshot does not fit the trace.
    """
    clock = clock or SystemClock()
    started_ns = clock.monotonic_ns()
    torch.set_num_threads(threads)
    start = Start(size, table_rows, resume)
    run = _Run(trace, holdout, seed, max_rows, start)
    settings = FitSettings(epochs=epochs, learning_rate=learning_rate or start.learning_rate)
    on_progress("features", 0.0)
    examples = run.examples()
    tower, ranker = run.networks(examples)
    on_progress("features", 1.0)
    fit(tower, ranker, examples, settings, seed, lambda share: on_progress("training", share))
    on_progress("measuring", 0.0)
    served = Served(run, tower, ranker)
    held_out = run.held_out()
    scores = served.scores(held_out) if len(held_out) else np.zeros((0, len(run.tasks)), np.float32)
    rows = jagged_rows(np.diff(trace.offsets), held_out)
    figures = measure(run.labels[rows], scores, run.tasks)
    on_progress("measuring", 1.0)
    snapshot = write_snapshot(
        out,
        {
            TOWER_FILE: tower_tensors(tower, run.prior.astype(np.float32)),
            RANKER_FILE: served.ranker_tensors,
            HOLDOUT_FILE: {"rows": rows, "scores": scores},
        },
        run.describe(tower, ranker, served.default()) | {"figures": figures},
    )
    return TrainReport(
        rows=run.rows,
        seconds=(clock.monotonic_ns() - started_ns) / 1e9,
        auc=figures["auc"],
        normalised_entropy=figures["normalised_entropy"],
        snapshot=snapshot,
    )


def measure(labels: F32, scores: F32, tasks: tuple[str, ...]) -> dict[str, Any]:
    """{"auc": {task: float}, "normalised_entropy": of the first task or None}."""
    found = {task: auc(labels[:, i], scores[:, i]) for i, task in enumerate(tasks)}
    return {
        "auc": {task: value for task, value in found.items() if value is not None},
        "normalised_entropy": normalised_entropy(labels[:, 0], scores[:, 0]),
    }


class _Run:
    """What is fixed before the first step: the split, the past, the shapes."""

    def __init__(
        self, trace: Trace, holdout: float, seed: int, max_rows: int | None, start: Start
    ) -> None:
        self.trace, self.seed, self.holdout = trace, seed, holdout
        if max_rows is not None and max_rows < 1:
            raise ConfigError("max_rows", f"{max_rows} is not positive")
        try:
            self.split: Split = split_by_time(trace, holdout)
        except ValueError as error:
            raise ConfigError("holdout", str(error)) from None
        if self.split.cut == 0:
            raise ConfigError("trace", f"has {trace.rows} rows: none is left to learn from")
        self.tasks = _learnable(trace, self.split.row_cut)
        if not self.tasks:
            raise ConfigError("trace", "has no labels (clicked, ...): nothing to learn from")
        self._max_rows = trace.rows if max_rows is None else max_rows
        self.labels = known_labels(trace, self.tasks)
        self._size, self._resumed = start.open(self.tasks, trace.item_feature_names)
        if self._resumed is None:
            self._shapes_of_size(start.table_rows)
        else:
            self._shapes_of(self._resumed)
        self.features = self.tower_shape.features
        self.past = UserPast(trace, EVENT_TYPES, self.history_length)
        items = fit_items(trace, self.labels, self.split.row_cut, self.ranker_shape.bins)
        self.items: Items = items if self._resumed is None else self._resumed.items(items)

    def _shapes_of_size(self, table_rows: int | None) -> None:
        self.history_length = HISTORY_LENGTHS[self._size]
        bits = event_types(self.trace)[: self.split.row_cut, None] >> np.arange(len(EVENT_TYPES))
        # As the snapshot keeps it: a served feature may differ from an offline one in no digit.
        self.prior: F64 = (bits & 1).mean(axis=0).astype(np.float32).astype(np.float64)
        tower = self.tower_shape = tower_of_size(self._size, len(EVENT_TYPES), rows=table_rows)
        self.ranker_shape = RankerShape.of_size(
            self._size,
            self.tasks,
            self.trace.item_feature_names,
            user=tower.dim,
            embedding=tower.output_dim,
            embedding_rows=tower.features.item_rows,
        )

    def _shapes_of(self, resumed: Resumed) -> None:
        self.history_length, self.prior = resumed.length, resumed.prior
        self.tower_shape, self.ranker_shape = resumed.tower_shape, resumed.ranker_shape

    @property
    def rows(self) -> int:
        """Rows learned from and held out."""
        counts = np.diff(self.trace.offsets)
        return int(counts[self._learned_from()].sum() + counts[self.held_out()].sum())

    def _learned_from(self) -> I64:
        """The latest requests before the split, at most `max_rows` rows (one request at least)."""
        least = self.split.row_cut - self._max_rows
        first = int(np.searchsorted(self.trace.offsets, max(least, 0)))
        return np.arange(min(first, self.split.cut - 1), self.split.cut, dtype=np.int64)

    def held_out(self) -> I64:
        """Requests after the split, evenly thinned out to at most `max_rows` rows."""
        total = self.trace.rows - self.split.row_cut
        step = max(1, -(-total // self._max_rows))
        return np.arange(self.split.cut, len(self.trace), step, dtype=np.int64)

    def states(self, requests: I64, before_ms: I64) -> UserFeatures:
        """Features of the requests' users as of just before each time."""
        users = self.past.request_users[requests]
        return states_of(self.past, users, before_ms, self.features, self.prior)

    def examples(self) -> Examples:
        rng = np.random.default_rng(self.seed)
        requests = self._learned_from()
        return make_examples(
            self.trace, self.labels, requests, self.items, self.ranker_shape, self.states, rng
        )

    def networks(self, examples: Examples) -> tuple[TowerNet, RankerNet]:
        """Both networks at their start: the resumed ones, or new ones with standardised inputs and
        outputs at the mean labels."""
        if self._resumed is not None:
            return self._resumed.networks()
        tower = untrained_tower(self.tower_shape, self.seed)
        ranker = untrained_ranker(self.ranker_shape, tower.items, self.seed)
        dense = examples.states.dense
        std = dense.std(dim=0, correction=0)
        tower.mean.data = dense.mean(dim=0)
        tower.std.data = torch.where(std > 1e-4, std, torch.ones_like(std))
        prior = np.clip(self.items.table.prior, 1e-4, 1 - 1e-4)
        ranker.out_b.data = torch.from_numpy(np.log(prior / (1 - prior)))
        return tower, ranker

    def describe(self, tower: TowerNet, ranker: RankerNet, default: F32) -> dict[str, Any]:
        """The snapshot's meta: enough to rebuild both models and to know where they came from."""
        return {
            "user_tower": {
                "shape": tower.shape.describe(),
                "dim": tower.shape.dim,
                "default": default.tolist(),
            },
            "ranker": ranker.shape.describe(),
            "history": {
                "types": list(EVENT_TYPES),
                "attributes": [],
                "length": self.history_length,
            },
            "training": {
                "rows": self.rows,
                "holdout": self.holdout,
                "seed": self.seed,
                "size": self._size,
                "resumed": self._resumed and self._resumed.version,
            },
        }


def _learnable(trace: Trace, row_cut: int) -> tuple[str, ...]:
    """Labels that at least one row before the split has."""
    known = {name: ~np.isnan(values[:row_cut]) for name, values in trace.labels.items()}
    return tuple(name for name, rows in known.items() if rows.any())


class Served:
    """The trained pair as a server runs it, fed from the trace instead of requests."""

    def __init__(self, run: _Run, tower: TowerNet, ranker: RankerNet) -> None:
        self._run = run
        prior = run.prior.astype(np.float32)
        self._tower = UserTower(_copy(tower), prior)
        self.ranker_tensors: Tensors = ranker_tensors(
            ranker, run.items.table, run.items.encoding, run.items.standard
        )
        self._ranker = Ranker(run.ranker_shape, self.ranker_tensors)

    def scores(self, requests: I64) -> F32:
        """float32 [rows of the requests, tasks], every user computed just before the request."""
        parts = [self._some(requests[i : i + _CHUNK]) for i in range(0, len(requests), _CHUNK)]
        return np.concatenate(parts)

    def default(self) -> F32:
        """Mean embedding of the users met in training. float32 [dim]."""
        requests = np.arange(self._run.split.cut, dtype=np.int64)[-_DEFAULT_SAMPLE:]
        mean: F32 = self._embed(requests).mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    def _embed(self, requests: I64) -> F32:
        states = self._run.states(requests, self._run.trace.t_ms[requests])
        return compress(self._tower.embed_features(states), "fp16")

    def _some(self, requests: I64) -> F32:
        trace = self._run.trace
        counts = np.diff(trace.offsets)
        rows = jagged_rows(counts, requests)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[requests])])
        sources = np.full((len(requests), 1), Source.COMPUTED, np.uint8)
        return self._ranker.score(
            RankBatch(
                self._embed(requests),
                sources,
                offsets,
                trace.items[rows],
                trace.item_features[rows],
            )
        )


def _copy(tower: TowerNet) -> TowerNet:
    """Inference converts a network to float64 in place; the snapshot keeps the float32 one."""
    copy = untrained_tower(tower.shape, seed=0)
    copy.load_state_dict(tower.state_dict())
    return copy
