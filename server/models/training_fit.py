"""The joint training of tower and ranker: AdamW on SUM's weighted multi-task loss (Eq. 8).

The tower learns through the ranker, which is the mix tower of SUM and, unlike there, is served.
Small logs overfit within an epoch; most of the settings below are against that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from predawn.server.models.ranker_training import Candidates, RankerNet
from predawn.server.models.training_examples import Examples
from predawn.server.models.user_tower import TowerNet
from predawn.server.request import I64, Source


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Rates are per element and step."""

    epochs: int = 6
    rows_per_step: int = 512
    learning_rate: float = 4e-3
    table_learning_rate: float = 1.2e-4
    weight_decay: float = 0.6
    slot_drop: float = 0.5
    item_drop: float = 0.5
    dense_drop: float = 0.3
    default_rate: float = 0.05  # states replaced by the default vector, zeros or the mean


class Fitter:
    """One training run. Reproducible: all its randomness comes from `seed`."""

    def __init__(
        self, tower: TowerNet, ranker: RankerNet, settings: FitSettings, seed: int, steps: int
    ) -> None:
        self._tower, self._ranker, self._settings = tower, ranker, settings
        self._chance = torch.Generator().manual_seed(seed)
        self._mean = torch.zeros(tower.shape.dim)
        tables = [tower.bags.weight, ranker.embedding.weight]
        others = [
            parameter
            for net in (tower, ranker)
            for parameter in net.parameters()
            if parameter.requires_grad and all(parameter is not table for table in tables)
        ]
        rates = [settings.learning_rate, settings.table_learning_rate]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": tables}]
        self._optimiser = torch.optim.AdamW(
            groups,
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, rates, total_steps=steps, pct_start=0.1
        )

    def step(self, examples: Examples, states: I64) -> float:
        """One update on some states and their rows; returns the loss."""
        rows, position = examples.rows_of(states)
        at = torch.from_numpy(states)
        slots = self._drop_slots(examples.slots[at])
        user = self._tower(slots, self._drop_dense(examples.dense[at]))
        self._mean.lerp_(user.detach().mean(dim=0), 0.05)
        user, sources = self._some_default(user, examples.sources[at, None])
        candidates = self._drop_items(examples.candidates.take(rows))
        logits = self._ranker(user, sources, position, candidates)
        loss = multi_task_loss(logits, examples.labels[rows])
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        self._optimiser.step()
        self._schedule.step()
        return float(loss.detach())

    def _happens(self, rate: float, *size: int) -> Tensor:
        return torch.rand(size, generator=self._chance) < rate

    def _drop_slots(self, slots: Tensor) -> Tensor:
        return slots.masked_fill(self._happens(self._settings.slot_drop, *slots.shape), 0)

    def _drop_dense(self, dense: Tensor) -> Tensor:
        lost = self._happens(self._settings.dense_drop, *dense.shape)
        return torch.where(lost, self._tower.mean, dense)

    def _drop_items(self, candidates: Candidates) -> Candidates:
        lost = self._happens(self._settings.item_drop, len(candidates.embedding))
        embedding = candidates.embedding.masked_fill(lost, 0)
        return Candidates(embedding, candidates.statistics, candidates.dense)

    def _some_default(self, user: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """A few states as an unknown user is served: half with zeros, half with the mean."""
        absent = self._happens(self._settings.default_rate, len(user), 1)
        vector = torch.where(self._happens(0.5, len(user), 1), self._mean, torch.zeros(()))
        default = torch.tensor(int(Source.DEFAULT))
        return torch.where(absent, vector, user), torch.where(absent, default, sources)


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
    steps = settings.epochs * per_epoch
    fitter = Fitter(tower, ranker, settings, seed, steps)
    rng = np.random.default_rng(seed)
    for epoch in range(settings.epochs):
        order = rng.permutation(states)
        for number in range(per_epoch):
            fitter.step(examples, order[number * size : (number + 1) * size])
            on_progress((epoch * per_epoch + number + 1) / steps)
