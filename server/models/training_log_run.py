"""What is fixed before the first step of a training on a log: split, labels, scales, shape.

Invariant: whatever is learned or counted comes from before the first held-out row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from predawn.server.errors import ConfigError
from predawn.server.models.item_table import ItemTable, count_items
from predawn.server.models.ranker import Encoding, Ranker, RankerShape, fit_encoding
from predawn.server.models.ranker_training import (
    RankerNet,
    Standard,
    fit_standard,
    untrained_ranker,
)
from predawn.server.models.training_data import known_labels
from predawn.server.models.training_fit import FitSettings
from predawn.server.models.training_log_examples import log_examples, statistics_before
from predawn.server.models.training_log_fit import fit_ranker
from predawn.server.models.training_log_labels import CLOCKS_APART_MS, Join, joined_labels
from predawn.server.models.training_resume import Resumed, Start
from predawn.server.models.training_served import measure
from predawn.server.request import F32
from predawn.server.served_log_columns import Layout, RankerInputs
from predawn.server.served_log_read import ServedRows
from predawn.server.traces import Trace

_EMBEDDING = 32  # values of the last user embedding that a new ranker matches with item vectors
_ITEM_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class LogPlan:
    """holdout: share of the latest rows that is measured on; start: of the ranker."""

    holdout: float
    seed: int
    join: Join
    start: Start


class LogRun:
    """What is fixed before the first step: the split, the labels, the scales, the shape."""

    def __init__(
        self, served: ServedRows, trace: Trace, layout: Layout, ranker: str, plan: LogPlan
    ) -> None:
        """served: rows of that ranker. ConfigError where there is nothing to learn from, or the
        resumed ranker's inputs are not the logged one's."""
        self._served, self._plan = served, plan
        self._inputs = layout.rankers[ranker]
        self._cut = _cut(served, plan.holdout)
        row_cut = _row_cut(served, self._cut, trace)
        self._tasks = tuple(
            task for task, values in trace.labels.items() if not np.isnan(values[:row_cut]).all()
        )
        if not self._tasks:
            raise ConfigError("trace", "has no labels (clicked, ...) from before the held-out rows")
        labels = known_labels(trace, self._tasks)
        self.labels = joined_labels(served, trace, labels, plan.join)
        if np.isnan(self.labels[: self._row(self._cut)]).all():
            raise ConfigError("trace", "has no event of any logged row: other users, items or days")
        self._size, self._resumed = plan.start.open(self._tasks, self._inputs.item_features)
        self.shape = self._shape(layout)
        known = _known(labels[:row_cut])
        self.table: ItemTable = count_items(trace.items[:row_cut], known)
        self._statistics = statistics_before(served, trace, known, self.table)
        self.encoding, self.standard = self._scales()

    def _shape(self, layout: Layout) -> RankerShape:
        users = [layout.user_dims[name] for name in self._inputs.user_models]
        pairs = tuple(layout.pair_dims[name] for name in self._inputs.pair_models)
        if self._resumed is None:
            return _new_shape(self._size, self._tasks, self._inputs, users, pairs)
        shape = self._resumed.ranker_shape
        read = (sum(users), len(users), pairs)
        kept = (shape.user, shape.user_models, shape.dims_of_pairs())
        if read != kept:
            reason = f"its ranker reads {_inputs_text(kept)}, the logged one {_inputs_text(read)}"
            raise ConfigError("resume", reason)
        return shape

    def trained(self, settings: FitSettings, on_progress: Callable[[float], None]) -> RankerNet:
        """The ranker after its training on the rows before the split."""
        net = self._net()
        learned = np.arange(self._cut, dtype=np.int64)
        row_cut = self._row(self._cut)
        examples = log_examples(
            self._served.take(learned),
            self.labels[:row_cut],
            self._statistics[:row_cut],
            self.shape,
            self.encoding,
            self.standard,
        )
        fit_ranker(net, examples, settings, self._plan.seed, on_progress)
        return net

    def measured(self, ranker: Ranker) -> dict[str, Any]:
        """Figures of the held-out rows, scored as the server would."""
        held_out = self._served.take(np.arange(self._cut, len(self._served), dtype=np.int64))
        labels = self.labels[self._row(self._cut) :]
        figures = measure(labels, ranker.score(held_out.batch()), self._tasks)
        both = [task for task in self._tasks if task in self._inputs.tasks]
        if both:
            columns = [self._inputs.tasks.index(task) for task in both]
            own = labels[:, [self._tasks.index(task) for task in both]]
            figures["served"] = measure(own, held_out.scores[:, columns], tuple(both))
        return figures

    def describe(self) -> dict[str, Any]:
        """The snapshot's section "training"."""
        return {
            "rows": len(self._served.items),
            "holdout": self._plan.holdout,
            "seed": self._plan.seed,
            "size": self._size,
            "resumed": self._resumed and self._resumed.version,
            "from_log": True,
        }

    def _row(self, request: int) -> int:
        return int(self._served.counts[:request].sum())

    def _scales(self) -> tuple[Encoding, Standard]:
        """Of the resumed ranker, whose weights know them; of a new one, from what it learns."""
        row_cut = self._row(self._cut)
        if self._resumed is not None:
            kept = self._resumed.ranker
            encoding = (kept[f"encoding.{name}"] for name in Encoding.__slots__)
            standard = (kept[f"statistics.{name}"] for name in Standard.__slots__)
            return Encoding(*encoding), Standard(*standard)
        features = self._served.item_features[:row_cut]
        return fit_encoding(features, self.shape.bins), fit_standard(self._statistics[:row_cut])

    def _net(self) -> RankerNet:
        if self._resumed is not None:
            return _warm(self._resumed)
        shape, seed = self.shape, self._plan.seed
        chance = torch.Generator().manual_seed(seed)
        vectors = torch.randn((1 + shape.embedding_rows, shape.embedding), generator=chance)
        vectors *= shape.embedding**-0.5
        items = nn.Embedding(len(vectors), shape.embedding, 0, _weight=vectors, sparse=True)
        net = untrained_ranker(shape, items, seed)
        prior = np.clip(self.table.prior, 1e-4, 1 - 1e-4)
        net.out_b.data = torch.from_numpy(np.log(prior / (1 - prior)).astype(np.float32))
        return net


def _warm(resumed: Resumed) -> RankerNet:
    """Its item vectors are the tower's, too, which stays as it is: so do they."""
    _, net = resumed.networks()
    net.embedding.weight.requires_grad_(False)
    return net


def _new_shape(
    size: str,
    tasks: tuple[str, ...],
    inputs: RankerInputs,
    users: list[int],
    pairs: tuple[int, ...],
) -> RankerShape:
    if sum(users) < 2:
        raise ConfigError("from_log", "its user models have 1 value: too few to learn from")
    return RankerShape.of_size(
        size,
        tasks,
        inputs.item_features,
        user=sum(users),
        user_models=len(users),
        embedding=min(_EMBEDDING, users[-1], sum(users) - 1),
        embedding_rows=_ITEM_ROWS,
        pair=sum(pairs),
        pair_models=len(pairs),
        pair_dims=pairs,
    )


def _row_cut(served: ServedRows, cut: int, trace: Trace) -> int:
    """Rows of the trace from before the first held-out request; all where none is held out."""
    if cut == len(served):
        return trace.rows
    until_ms = served.t_ms[cut] - CLOCKS_APART_MS
    return int(trace.offsets[np.searchsorted(trace.t_ms, until_ms)])


def _inputs_text(read: tuple[int, int, tuple[int, ...]]) -> str:
    return f"{read[0]} values of {read[1]} user models and pairs of {list(read[2])}"


def _cut(served: ServedRows, holdout: float) -> int:
    """The number of requests that are learned from. ConfigError where there are none."""
    if not 0 <= holdout <= 0.9:
        raise ConfigError("holdout", f"{holdout} is not in 0 .. 0.9")
    ends = np.cumsum(served.counts)
    cut = int(np.searchsorted(ends, int(ends[-1] * (1 - holdout)), side="right"))
    if cut == 0:
        raise ConfigError("from_log", f"has {ends[-1]} rows: none is left to learn from")
    return cut


def _known(labels: F32) -> F32:
    """Unknown labels count as the mean."""
    known: F32 = np.where(np.isnan(labels), np.nanmean(labels, axis=0), labels)
    return known.astype(np.float32)
