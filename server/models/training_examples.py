"""The training set as tensors: states of users, candidates, labels.

A *state* is a user's history as of a request. Besides the state just before the request there is,
for half of the requests, a *stale* one of a minute to two days earlier, so that a ranker meets in
training what SOAP and a failover cache will serve it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from predawn.server.models.item_table import ItemTable, count_items, embedding_rows
from predawn.server.models.ranker import Encoding, RankerShape, fit_encoding
from predawn.server.models.ranker_training import Candidates, Standard, fit_standard
from predawn.server.models.training_data import UserPast, earlier_item_statistics
from predawn.server.models.user_features import F64, FeatureShape, UserFeatures, user_features
from predawn.server.models.user_tower import State, as_state
from predawn.server.request import F32, I64, Source
from predawn.server.traces import Trace
from predawn.server.traces_data import jagged_rows

_CHUNK = 4096
_STALE_SHARE = 0.5
_STALE_FROM_MS, _STALE_TO_MS = 60_000, 2 * 86_400_000


@dataclass(frozen=True, slots=True)
class Items:
    """What the ranker will know of items: fitted on all rows before the split."""

    table: ItemTable
    encoding: Encoding
    standard: Standard
    statistics: F32  # [rows before the split, S], each from strictly earlier rows


@dataclass(frozen=True, slots=True)
class Examples:
    """S states and R rows. states: dense as float32; sources: int64 [S]; starts, counts: rows of
    each state; labels: [R, tasks], NaN where unknown; requests, at_ms: int64 [S], of which request
    and as of when; pairs: float32 [sum of counts, pair], state after state, NaN where unknown;
    None without a model of pairs."""

    states: State
    sources: Tensor
    starts: I64
    counts: I64
    candidates: Candidates
    labels: Tensor
    requests: I64
    at_ms: I64
    pairs: Tensor | None = None

    def pairs_of(self, states: I64) -> Tensor | None:
        """Pair embeddings of the rows of some states, in the order of `rows_of`."""
        if self.pairs is None:
            return None
        return self.pairs[torch.from_numpy(jagged_rows(self.counts, states))]

    def rows_of(self, states: I64) -> tuple[Tensor, Tensor]:
        """Rows of some states, and for each row the position of its state among them."""
        counts = self.counts[states]
        within = jagged_rows(counts, np.arange(len(states), dtype=np.int64))
        offset = np.repeat(self.starts[states] - (np.cumsum(counts) - counts), counts)
        position = np.repeat(np.arange(len(states)), counts)
        return torch.from_numpy(within + offset), torch.from_numpy(position)


def fit_items(trace: Trace, labels: F32, row_cut: int, bins: int) -> Items:
    """From the rows before the split. Unknown labels count as the mean."""
    items, prior = trace.items[:row_cut], np.nanmean(labels[:row_cut], axis=0)
    known = np.where(np.isnan(labels[:row_cut]), prior, labels[:row_cut]).astype(np.float32)
    table = count_items(items, known)
    times = np.repeat(trace.t_ms, np.diff(trace.offsets))[:row_cut]
    statistics = earlier_item_statistics(table.find(items), times, known, table.prior)
    encoding = fit_encoding(trace.item_features[:row_cut], bins)
    return Items(table, encoding, fit_standard(statistics), statistics)


def states_of(
    past: UserPast, users: I64, before_ms: I64, shape: FeatureShape, prior: F64
) -> UserFeatures:
    """Features of users as of just before a time, chunk by chunk (bounded memory)."""
    parts = [
        user_features(past.batch(users[i : i + _CHUNK], before_ms[i : i + _CHUNK]), shape, prior)
        for i in range(0, len(users), _CHUNK)
    ]
    names = UserFeatures.__slots__
    return UserFeatures(*(np.concatenate([getattr(part, n) for part in parts]) for n in names))


def make_examples(
    trace: Trace,
    labels: F32,
    requests: I64,
    items: Items,
    shape: RankerShape,
    states: Callable[[I64, I64], UserFeatures],
    rng: np.random.Generator,
) -> Examples:
    """requests: consecutive ones, all before the split; states(users' requests, before_ms) gives
    their features."""
    stale = requests[rng.random(len(requests)) < _STALE_SHARE]
    behind_ms = _STALE_FROM_MS * (_STALE_TO_MS / _STALE_FROM_MS) ** rng.random(len(stale))
    both = np.concatenate([requests, stale])
    at_ms = trace.t_ms[both] - np.append(
        np.zeros(len(requests), np.int64), behind_ms.astype(np.int64)
    )
    features = states(both, at_ms)
    state = as_state(features)
    fresh_sources = rng.choice([Source.DIRECT, Source.COMPUTED], len(requests))
    stale_sources = rng.choice([Source.STALE, Source.FAILOVER], len(stale))
    first = int(trace.offsets[requests[0]])
    rows = slice(first, int(trace.offsets[requests[-1] + 1]))
    hashed = embedding_rows(trace.items[rows], shape.embedding_rows)
    standard = (items.statistics[rows] - items.standard.mean) / items.standard.std
    encoded = items.encoding.encode(trace.item_features[rows])
    return Examples(
        states=state._replace(dense=state.dense.float()),
        sources=torch.from_numpy(np.concatenate([fresh_sources, stale_sources]).astype(np.int64)),
        starts=trace.offsets[both] - first,
        counts=np.diff(trace.offsets)[both],
        candidates=Candidates(
            torch.from_numpy(hashed),
            torch.from_numpy(items.statistics[rows][:, -1].copy()),
            torch.from_numpy(standard.astype(np.float32)),
            torch.from_numpy(encoded.astype(np.float32)),
        ),
        labels=torch.from_numpy(labels[rows]),
        requests=both,
        at_ms=at_ms,
    )
