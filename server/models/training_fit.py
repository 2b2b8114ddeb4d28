"""The joint training of tower and ranker: AdamW on SUM's weighted multi-task loss (Eq. 8).

The tower learns through the ranker, which is the mix tower of SUM and, unlike there, is served.
Small logs overfit within an epoch; most of the settings below are against that. Worth on the
KuaiRand subset (AUC click / like / long view, all together .784 / .947 / .754): without item
statistics .773 / .906 / .751, without dense user features .765 / .937 / .739, without the rates
over the newest events .780 / .943 / .752, without the duration .779 / .942 / .752, with tables
kept from epoch to epoch .778 / .944 / .750, without `dense_drop` .781 / .947 / .752. With the pairs
of a tiny foundation model .784 / .948 / .753, without `pair_drop` .781 / .949 / .750.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from predawn.server.models.ranker_training import Candidates, RankerNet
from predawn.server.models.training_examples import Examples
from predawn.server.models.user_tower import State, TowerNet
from predawn.server.request import I64, Source

_ROWS = 240_000  # passes over rows that a default training takes: seconds on one core
_EPOCHS_LIMIT = 6


@dataclass(frozen=True, slots=True)
class FitSettings:
    """epochs: None for as many as fit `_ROWS`, 1 .. 6; drop rates are per element and step."""

    epochs: int | None = None
    rows_per_step: int = 512
    learning_rate: float = 4e-3
    table_learning_rate: float = 1e-3
    weight_decay: float = 1.0
    slot_drop: float = 0.5
    item_drop: float = 0.5
    dense_drop: float = 0.3
    pair_drop: float = 0.8
    default_rate: float = 0.05  # states replaced by the default vector, zeros or the mean


class Fitter:
    """One training run. Reproducible: all its randomness comes from `seed`."""

    def __init__(
        self, tower: TowerNet, ranker: RankerNet, settings: FitSettings, seed: int, steps: int
    ) -> None:
        self._tower, self._ranker, self._settings = tower, ranker, settings
        self._chance = torch.Generator().manual_seed(seed)
        self._mean = torch.zeros(tower.shape.dim)
        tables = [tower.bags.weight, tower.items.weight]
        self._tables, self._first_tables = tables, [table.detach().clone() for table in tables]
        free = [tower.taste, tower.gate]  # start at a meaning: not pulled to zero
        others = _parameters((tower, ranker), without=[*tables, *free])
        groups: list[dict[str, Any]] = [{"params": others}, {"params": free, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(
            groups,
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
        )
        self._table_optimiser = torch.optim.SparseAdam(tables, lr=settings.table_learning_rate)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: rate_at(step, steps)
        )

    def begin_epoch(self) -> None:
        """Puts the tables back to their start: in training, as in serving, no row of a table has
        learned from the example it is read for (MEDA, arXiv 2305.19531). Else they overfit."""
        for table, first in zip(self._tables, self._first_tables, strict=True):
            table.data.copy_(first)
        self._table_optimiser.state.clear()

    def step(self, examples: Examples, states: I64) -> float:
        """One update on some states and their rows; returns the loss."""
        rows, position = examples.rows_of(states)
        at = torch.from_numpy(states)
        state = self._drop(examples.states.take(at))
        user = self._tower(state)
        self._mean.lerp_(user.detach().mean(dim=0), 0.05)
        user, sources = self._some_default(user, examples.sources[at, None])
        candidates = self._drop_items(examples.candidates.take(rows))
        pairs, pair_sources = self.some_pairs(examples.pairs_of(states), position)
        logits = self._ranker(user, sources, position, candidates, pairs, pair_sources)
        loss = multi_task_loss(logits, examples.labels[rows])
        optimisers = (self._optimiser, self._table_optimiser)
        for optimiser in optimisers:
            optimiser.zero_grad()
        torch.autograd.backward(loss)
        for optimiser in optimisers:
            optimiser.step()
        self._schedule.step()
        return float(loss.detach())

    def _happens(self, rate: float, *size: int) -> Tensor:
        return torch.rand(size, generator=self._chance) < rate

    def _drop(self, state: State) -> State:
        slots = self._happens(self._settings.slot_drop, *state.slots.shape)
        dense = self._happens(self._settings.dense_drop, *state.dense.shape)
        items = self._happens(self._settings.item_drop, *state.items.shape)
        return State(
            state.slots.masked_fill(slots, 0),
            torch.where(dense, self._tower.mean, state.dense),
            state.items.masked_fill(items, 0),
            state.bits,
        )

    def some_pairs(
        self, pairs: Tensor | None, position: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Pair embeddings as a server has them: of each state another share is there, of the rest
        a half is filled with the mean over the user's others, a half is missing. NaN: unknown."""
        if pairs is None:
            return None, None
        states = int(position.max()) + 1
        known = ~pairs[:, 0].isnan()
        pairs = pairs.nan_to_num()
        share = torch.rand(states, generator=self._chance)[position]
        covered = known & (torch.rand(len(pairs), generator=self._chance) < share)
        count = torch.bincount(position[known], minlength=states)[position] - 1
        filled = known & self._happens(0.5, len(pairs)) & (count > 0)
        total = pairs.new_zeros((states, pairs.shape[1])).index_add_(0, position, pairs)
        others = (total[position] - pairs) / count.clamp(min=1)[:, None]
        mean, default = torch.tensor(int(Source.USER_MEAN)), torch.tensor(int(Source.DEFAULT))
        absent = torch.where(filled, mean, default)
        sources = torch.where(covered, torch.tensor(int(Source.DIRECT)), absent)
        shown = torch.where(covered[:, None], pairs, others)
        lost = self._happens(self._settings.pair_drop, *shown.shape)
        kept = 1 - self._settings.pair_drop
        return (shown / kept).masked_fill(lost, 0), sources[:, None]

    def _drop_items(self, candidates: Candidates) -> Candidates:
        lost = self._happens(self._settings.item_drop, len(candidates.embedding))
        seen = candidates.seen.masked_fill(lost, 0)
        return replace(candidates, seen=seen)

    def _some_default(self, user: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """A few states as an unknown user is served: half with zeros, half with the mean."""
        absent = self._happens(self._settings.default_rate, len(user), 1)
        vector = torch.where(self._happens(0.5, len(user), 1), self._mean, torch.zeros(()))
        default = torch.tensor(int(Source.DEFAULT))
        return torch.where(absent, vector, user), torch.where(absent, default, sources)


def _parameters(nets: tuple[nn.Module, ...], without: Sequence[Tensor]) -> list[nn.Parameter]:
    """Everything that is learned, less some of it."""
    left_out = {id(parameter) for parameter in without}
    every = {id(p): p for net in nets for p in net.parameters() if p.requires_grad}
    return [parameter for key, parameter in every.items() if key not in left_out]


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rate: up over the first tenth, then down along a cosine to 0."""
    warm_up = max(steps / 10, 1.0)
    done = max(step - warm_up, 0.0) / max(steps - warm_up, 1.0)
    return min((step + 1) / warm_up, 1.0) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def multi_task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 8 with equal task weights: mean binary cross-entropy over the labels that are known."""
    known = ~labels.isnan()
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num(), reduction="none"
    )
    return (losses * known).sum() / known.sum().clamp(min=1)


def fit(
    tower: TowerNet,
    ranker: RankerNet,
    examples: Examples,
    settings: FitSettings,
    seed: int,
    on_progress: Callable[[float], None],
) -> None:
    """Trains both in place. on_progress: share done, after every step."""
    states = len(examples.starts)
    share = settings.rows_per_step * states / max(int(examples.counts.sum()), 1)
    size = max(1, min(states, round(share)))
    per_epoch = -(-states // size)
    rows = max(int(examples.counts.sum()), 1)
    epochs = settings.epochs or min(max(_ROWS // rows, 1), _EPOCHS_LIMIT)
    steps = epochs * per_epoch
    fitter = Fitter(tower, ranker, settings, seed, steps)
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = rng.permutation(states)
        fitter.begin_epoch()
        for number in range(per_epoch):
            fitter.step(examples, order[number * size : (number + 1) * size])
            on_progress((epoch * per_epoch + number + 1) / steps)
