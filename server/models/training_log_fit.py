"""The training of a ranker alone, on what serving saw: AdamW on the same loss as `training_fit`.

The coverage is the log's own: no pair is taken away that was there, none is put in that was not.
What keeps the ranker from learning rows by heart (items and values of pairs dropped at random, and
the item vectors put back at each pass) is as in the joint training, whose weights it may go on
from.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from predawn.server.models.ranker_training import RankerNet
from predawn.server.models.training_fit import FitSettings, multi_task_loss, rate_at
from predawn.server.models.training_log_examples import LogExamples
from predawn.server.request import I64

_ROWS, _EPOCHS_LIMIT = 240_000, 6


class LogFitter:
    """One training run. Reproducible: all its randomness comes from `seed`."""

    def __init__(self, ranker: RankerNet, settings: FitSettings, seed: int, steps: int) -> None:
        """Item vectors that require no gradient stay as they are."""
        self._ranker, self._settings = ranker, settings
        self._chance = torch.Generator().manual_seed(seed)
        self._table = ranker.embedding.weight
        self._first_table = self._table.detach().clone()
        others = [each for each in ranker.parameters() if each is not self._table]
        self._optimiser = torch.optim.AdamW(
            others,
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: rate_at(step, steps)
        )
        self._table_optimiser = torch.optim.SparseAdam(
            [self._table], lr=settings.table_learning_rate
        )

    def begin_epoch(self) -> None:
        """Puts the item vectors back to their start, as the joint training does."""
        self._table.data.copy_(self._first_table)
        self._table_optimiser.state.clear()

    def step(self, examples: LogExamples, requests: I64) -> float:
        """One update on some requests and their rows; returns the loss."""
        rows, position = examples.rows_of(requests)
        at = torch.from_numpy(requests)
        candidates = examples.candidates.take(rows)
        lost = self._happens(self._settings.item_drop, len(rows))
        candidates = replace(candidates, seen=candidates.seen.masked_fill(lost, 0))
        pairs, sources = examples.pairs, examples.pair_sources
        logits = self._ranker(
            examples.user[at],
            examples.sources[at],
            position,
            candidates,
            None if pairs is None else self._dropped(pairs[rows]),
            None if sources is None else sources[rows],
        )
        loss = multi_task_loss(logits, examples.labels[rows])
        optimisers = (self._optimiser, self._table_optimiser)
        for optimiser in optimisers:
            optimiser.zero_grad()
        torch.autograd.backward(loss)
        for optimiser in optimisers:
            optimiser.step()  # item vectors without a gradient stay
        self._schedule.step()
        return float(loss.detach())

    def _dropped(self, pairs: Tensor) -> Tensor:
        kept = 1 - self._settings.pair_drop
        lost = self._happens(self._settings.pair_drop, *pairs.shape)
        return (pairs / kept).masked_fill(lost, 0)

    def _happens(self, rate: float, *size: int) -> Tensor:
        return torch.rand(size, generator=self._chance) < rate


def fit_ranker(
    ranker: RankerNet,
    examples: LogExamples,
    settings: FitSettings,
    seed: int,
    on_progress: Callable[[float], None],
) -> None:
    """Trains it in place. on_progress: share done, after every step."""
    requests, rows = len(examples.counts), max(int(examples.counts.sum()), 1)
    size = max(1, min(requests, round(settings.rows_per_step * requests / rows)))
    per_epoch = -(-requests // size)
    epochs = settings.epochs or min(max(_ROWS // rows, 1), _EPOCHS_LIMIT)
    steps = epochs * per_epoch
    fitter = LogFitter(ranker, settings, seed, steps)
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = rng.permutation(requests)
        fitter.begin_epoch()
        for number in range(per_epoch):
            fitter.step(examples, order[number * size : (number + 1) * size])
            on_progress((epoch * per_epoch + number + 1) / steps)
