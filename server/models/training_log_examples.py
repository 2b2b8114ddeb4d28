"""The training set of a served-feature log as tensors: what the ranker was given, and the labels.

Invariant: nothing here is computed anew. Embeddings, sources and features are those that were
served, misses and fills among them; only item statistics are counted, from rows before each row.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from predawn.server.models.item_table import ItemTable, embedding_rows, item_statistics
from predawn.server.models.ranker import Encoding, RankerShape
from predawn.server.models.ranker_training import Candidates, Standard
from predawn.server.models.training_data import Timeline, running_sums
from predawn.server.models.training_log_labels import CLOCKS_APART_MS
from predawn.server.request import F32, I64
from predawn.server.served_log_read import ServedRows
from predawn.server.traces import Trace
from predawn.server.traces_data import jagged_rows


@dataclass(frozen=True, slots=True)
class LogExamples:
    """n requests and R rows. user: float32 [n, dim]; sources: int64 [n, user models]; counts:
    int64 [n], rows of each; pairs: float32 [R, pair] and pair_sources: int64 [R, pair models], None
    without a model of pairs; labels: float32 [R, tasks], NaN where unknown."""

    user: Tensor
    sources: Tensor
    counts: I64
    candidates: Candidates
    pairs: Tensor | None
    pair_sources: Tensor | None
    labels: Tensor

    def rows_of(self, requests: I64) -> tuple[Tensor, Tensor]:
        """Rows of some requests, and for each row the position of its request among them."""
        position = np.repeat(np.arange(len(requests)), self.counts[requests])
        return torch.from_numpy(jagged_rows(self.counts, requests)), torch.from_numpy(position)


def log_examples(
    rows: ServedRows,
    labels: F32,
    statistics: F32,
    shape: RankerShape,
    encoding: Encoding,
    standard: Standard,
) -> LogExamples:
    """labels: float32 [R, tasks]; statistics: float32 [R, S], of each row's item before it."""
    standardised = (statistics - standard.mean) / standard.std
    encoded = encoding.encode(rows.item_features)
    return LogExamples(
        user=torch.from_numpy(rows.user),
        sources=torch.from_numpy(rows.sources.astype(np.int64)),
        counts=rows.counts,
        candidates=Candidates(
            torch.from_numpy(embedding_rows(rows.items, shape.embedding_rows)),
            torch.from_numpy(statistics[:, -1].copy()),
            torch.from_numpy(standardised.astype(np.float32)),
            torch.from_numpy(encoded.astype(np.float32)),
        ),
        pairs=torch.from_numpy(rows.pairs) if shape.pair_models else None,
        pair_sources=(
            torch.from_numpy(rows.pair_sources.astype(np.int64)) if shape.pair_models else None
        ),
        labels=torch.from_numpy(labels),
    )


def statistics_before(rows: ServedRows, trace: Trace, labels: F32, table: ItemTable) -> F32:
    """`item_statistics` [R, S] of each logged row's item from the trace's rows before it. labels:
    float32 [r, tasks] of the trace's first r rows, none unknown; table: of the same rows."""
    times = np.repeat(trace.t_ms, np.diff(trace.offsets))[: len(labels)]
    timeline = Timeline(table.find(trace.items[: len(labels)]), times)
    sums = running_sums(labels[timeline.order].astype(np.float64))
    before_ms = np.repeat(rows.t_ms, rows.counts) - CLOCKS_APART_MS
    first, stop = timeline.before(table.find(rows.items), before_ms)
    earlier = (sums[stop] - sums[first]).astype(np.float32)
    return item_statistics(earlier, (stop - first).astype(np.float32), table.prior)
