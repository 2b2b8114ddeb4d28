"""The foundation model's part of a training: the model itself, and what the ranker sees of it.

Invariant: the embedding of a pair is computed by the served model, from the history as of a time,
and rounded as the store keeps it; so training, measuring and serving see one thing. The ranker
never sees the embedding of a row that the foundation model learned from: it would trust it far too
much (on the KuaiRand subset its normalised entropy rose from .83 to 1.03). So the foundation model
learns from the earlier rows, and the ranker reads it at the later ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from predawn.server.errors import ConfigError, UnknownName
from predawn.server.models.foundation import (
    FoundationNet,
    foundation_net,
    foundation_tensors,
    untrained_foundation,
)
from predawn.server.models.foundation_model import FoundationModel
from predawn.server.models.foundation_shape import named_foundation
from predawn.server.models.item_table import ItemTable, count_items, embedding_rows
from predawn.server.models.loading import FOUNDATION_FILE
from predawn.server.models.ranker_training import Standard, fit_standard
from predawn.server.models.snapshots import Snapshot, Tensors
from predawn.server.models.training_data import UserPast, earlier_item_statistics
from predawn.server.models.training_examples import Examples
from predawn.server.models.training_foundation import (
    FoundationFit,
    fit_foundation,
    foundation_scores,
)
from predawn.server.models.training_sequences import Sequences
from predawn.server.request import F32, I64, U64, PairBatch
from predawn.server.stabilise import compress
from predawn.server.traces import EVENT_TYPES, Trace, event_types
from predawn.server.traces_data import jagged_rows

_CHUNK = 256
_FOUNDATION_SHARE = 0.7  # of the rows learned from, the earliest: the foundation model's


class PairPart:
    """A trained foundation model over a trace."""

    def __init__(
        self,
        net: FoundationNet,
        trace: Trace,
        labels: F32,
        stop: int = 0,
        standard: Standard | None = None,
    ) -> None:
        """labels: float32 [rows, tasks], NaN where unknown; stop: the row behind those that the
        model learned from; standard: of its item statistics, where they may be counted further."""
        self.net = net.eval()
        self.stop = stop
        self._standard = standard
        self._trace, self._labels = trace, labels
        self._past = UserPast(trace, EVENT_TYPES, net.shape.length)
        self._model = FoundationModel(net)

    def count_to(self, stop: int) -> None:
        """Item statistics of all rows before `stop`. The ranker's examples come before that: their
        own labels must not be among what is counted."""
        if self._standard is not None:
            labels = self._labels[:stop]
            table = count_items(*_hashed(self.net, self._trace, labels))
            _count_items(self.net, table, self._standard)
            self._model = FoundationModel(self.net)

    @property
    def files(self) -> dict[str, Tensors]:
        """What the snapshot keeps."""
        return {FOUNDATION_FILE: foundation_tensors(self.net)}

    def describe(self, requests: I64) -> dict[str, Any]:
        """The snapshot's section; the default is the mean embedding over the rows of `requests`."""
        shape = self.net.shape
        mean = self.embeddings(requests, self._trace.t_ms[requests]).mean(axis=0, dtype=np.float64)
        section = {"shape": shape.describe(), "dim": shape.dim, "length": shape.length}
        return {"foundation": section | {"default": mean.astype(np.float32).tolist()}}

    def with_pairs(self, examples: Examples) -> Examples:
        """The ranker's examples with the pair embeddings of the rows that the model has not learned
        from, in every state."""
        counts = np.diff(self._trace.offsets)[examples.requests]
        pairs: F32 = np.full((int(counts.sum()), self.net.shape.dim), np.nan, np.float32)
        later = np.flatnonzero(self._trace.offsets[examples.requests] >= self.stop)
        some = self.embeddings(examples.requests[later], examples.at_ms[later])
        pairs[jagged_rows(counts, later)] = some
        return replace(examples, pairs=torch.from_numpy(pairs))

    def embeddings(self, requests: I64, at_ms: I64) -> F32:
        """Of the rows of the requests as of just before a time each: float32 [rows, dim]."""
        counts = np.diff(self._trace.offsets)[requests]
        found = np.zeros((int(counts.sum()), self.net.shape.dim), np.float32)
        order = np.argsort(at_ms, kind="stable").astype(np.int64)  # histories only grow
        for first in range(0, len(order), _CHUNK):
            some = order[first : first + _CHUNK]
            rows = jagged_rows(counts, some)
            embedded = self._model.embed_pairs(self._batch(requests, at_ms, some))
            found[rows] = compress(embedded, "fp16")
        return found

    def _batch(self, requests: I64, at_ms: I64, some: I64) -> PairBatch:
        all_counts = np.diff(self._trace.offsets)
        rows = jagged_rows(all_counts, requests[some])
        users = self._past.batch(self._past.request_users[requests[some]], at_ms[some])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(all_counts[requests[some]])])
        return PairBatch(users, offsets, self._trace.items[rows])

    def scores(self, rows: I64) -> F32:
        """Probabilities of the foundation model itself: float32 [len(rows), tasks]."""
        trace, shape = self._trace, self.net.shape
        sequences = Sequences(trace, self._labels, trace.rows, shape, EVENT_TYPES)
        asked = np.zeros(trace.rows, np.bool_)
        asked[rows] = True
        return foundation_scores(self.net, sequences, sequences.windows(asked), trace.rows)[rows]


@dataclass(frozen=True, slots=True)
class PairPlan:
    """What to train. name: of a configuration; learned: first and last + 1 of the rows that all
    models learn from."""

    name: str
    tasks: tuple[str, ...]
    learned: tuple[int, int]
    seed: int
    epochs: int | None

    def __post_init__(self) -> None:
        """ConfigError for an unknown configuration."""
        try:
            named_foundation(self.name, types=len(EVENT_TYPES))
        except UnknownName as error:
            raise ConfigError("foundation", str(error)) from None


def train_pair_part(
    plan: PairPlan, trace: Trace, labels: F32, on_progress: Callable[[float], None]
) -> PairPart:
    """Trains a foundation model on the earlier ones of the learned rows (all, if they are of one
    request); histories are those of the whole past."""
    first, last = plan.learned
    wanted = first + int((last - first) * _FOUNDATION_SHARE)
    stop = int(trace.offsets[np.searchsorted(trace.offsets, max(wanted, first + 1))])
    bits = event_types(trace)[:stop, None] >> np.arange(len(EVENT_TYPES))
    prior = tuple((bits & 1).mean(axis=0).round(6).tolist())
    shape = named_foundation(plan.name, types=len(EVENT_TYPES), tasks=plan.tasks)
    net = untrained_foundation(replace(shape, prior=prior), plan.seed)
    statistics, standard = _fit_statistics(net, trace, labels[:stop])
    sequences = Sequences(trace, labels, stop, net.shape, EVENT_TYPES, statistics)
    windows = sequences.windows(np.arange(stop) >= first)
    settings = FoundationFit(epochs=plan.epochs)
    fit_foundation(net, sequences, windows, settings, plan.seed, on_progress)
    return PairPart(net, trace, labels, stop, standard)


def kept_pair_part(snapshot: Snapshot, trace: Trace, labels: F32) -> PairPart | None:
    """The foundation model of a snapshot as it is, None where it has none."""
    if "foundation" not in snapshot.meta:
        return None
    described = snapshot.section("foundation")["shape"]
    return PairPart(foundation_net(described, snapshot.read(FOUNDATION_FILE)), trace, labels)


def _hashed(net: FoundationNet, trace: Trace, labels: F32) -> tuple[U64, F32]:
    """Rows of the net's item table and labels of the trace's first rows, unknown ones the mean."""
    known = np.where(np.isnan(labels), np.nanmean(labels, axis=0), labels).astype(np.float32)
    rows = embedding_rows(trace.items[: len(labels)], net.shape.item_rows)
    return rows.astype(np.uint64), known


def _count_items(net: FoundationNet, table: ItemTable, standard: Standard) -> None:
    """Gives the net what is counted of every row of its item table."""
    counted = ((table.features() - standard.mean) / standard.std).astype(np.float32)
    every = np.tile(counted[-1], (1 + net.shape.item_rows, 1))
    every[table.hashes.astype(np.int64)] = counted[:-1]
    every[0] = 0
    net.statistics.data = torch.from_numpy(every)


def _fit_statistics(net: FoundationNet, trace: Trace, labels: F32) -> tuple[F32, Standard]:
    """Counts, gives the net's outputs the mean labels, and returns each row's statistics as they
    were before it, float32 [rows, S], and their standard."""
    hashed, known = _hashed(net, trace, labels)
    table = count_items(hashed, known)
    times = np.repeat(trace.t_ms, np.diff(trace.offsets))[: len(labels)]
    earlier = earlier_item_statistics(table.find(hashed), times, known, table.prior)
    standard = fit_standard(earlier)
    _count_items(net, table, standard)
    safe = np.clip(table.prior, 1e-4, 1 - 1e-4)
    odds = torch.from_numpy(np.log(safe / (1 - safe)).astype(np.float32))
    net.tasks_b.data, net.compressed_b.data = odds.clone(), odds.clone()
    return ((earlier - standard.mean) / standard.std).astype(np.float32), standard


def share_of_gain(
    without: float | None, itself: float | None, served: float | None
) -> float | None:
    """How much of the foundation model's gain in normalised entropy over the ranker without it the
    ranker with it shows (SOLARIS' transfer ratio); None where there is no gain to share."""
    if without is None or itself is None or served is None or without <= itself:
        return None
    return (without - served) / (without - itself)
