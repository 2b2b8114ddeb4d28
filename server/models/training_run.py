"""What is fixed before the first step of a training: the split, the past, the shapes.

Invariant: whatever is learned or counted comes from before the split.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from predawn.server.errors import ConfigError
from predawn.server.models.ranker import RankerShape
from predawn.server.models.ranker_training import RankerNet, untrained_ranker
from predawn.server.models.training_data import Split, UserPast, known_labels, split_by_time
from predawn.server.models.training_examples import (
    Examples,
    Items,
    fit_items,
    make_examples,
    states_of,
)
from predawn.server.models.training_resume import Resumed, Start
from predawn.server.models.user_features import F64, UserFeatures
from predawn.server.models.user_sizes import HISTORY_LENGTHS, tower_of_size
from predawn.server.models.user_tower import TowerNet, untrained_tower
from predawn.server.request import F32, I64
from predawn.server.traces import EVENT_TYPES, Trace, event_types

_DEFAULT_SAMPLE = 8192


class Run:
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

    def read_pairs(self, dim: int) -> None:
        """The ranker reads one model of pairs. ConfigError where the resumed one does not."""
        if self._resumed is None:
            self.ranker_shape = replace(self.ranker_shape, pair=dim, pair_models=1)
        elif self.ranker_shape.pair != dim:
            raise ConfigError("resume", "its ranker does not read its foundation model")

    def learned_rows(self) -> tuple[int, int]:
        """First and last + 1 of the rows learned from."""
        return int(self.trace.offsets[self._learned_from()[0]]), self.split.row_cut

    def newest(self) -> I64:
        """The last requests before the split, for what is a mean over them."""
        return np.arange(self.split.cut, dtype=np.int64)[-_DEFAULT_SAMPLE:]

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
        if self.ranker_shape.pair_models:
            ranker.pair.data.zero_()  # learned from the later rows alone: starts as if not there
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
