"""Trains the foundation model on a log: several tasks, and the auto-encoder of its pair embedding.

One pass over time would be the field's way; a small log is passed over a few times, with the item
table put back to its start before each, as in `training_fit`. The loss of a candidate is the mean
cross-entropy over its known labels, once from the last layer and once from the compressed embedding
alone (which is what a ranker will see), and the auto-encoder's error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from predawn.server.models.foundation import FoundationNet, Pairs
from predawn.server.models.training_fit import multi_task_loss, rate_at
from predawn.server.models.training_sequences import SequenceBatch, Sequences, Window
from predawn.server.request import F32

_ROWS = 200_000  # passes over rows that a default training takes: a minute or two on one core
_EPOCHS_LIMIT = 3


@dataclass(frozen=True, slots=True)
class FoundationFit:
    """How it is trained. epochs: None for as many as fit `_ROWS`, 1 .. 3; tokens_per_step: of
    histories, padding included; item_drop: share of items hidden per step; lost_weight: of the
    auto-encoder's error."""

    epochs: int | None = None
    tokens_per_step: int = 512
    learning_rate: float = 3e-3
    table_learning_rate: float = 1e-3
    weight_decay: float = 0.5
    item_drop: float = 0.5
    lost_weight: float = 0.1


def fit_foundation(
    net: FoundationNet,
    sequences: Sequences,
    windows: Sequence[Window],
    settings: FoundationFit,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Trains in place. Reproducible by seed. on_progress: share done, after every step."""
    rng = np.random.default_rng(seed)
    chance = torch.Generator().manual_seed(seed)
    table = net.items.weight
    first = table.detach().clone()
    others = [p for p in net.parameters() if p is not table]
    dense = torch.optim.AdamW(
        others,
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=settings.weight_decay,
    )
    sparse = torch.optim.SparseAdam([table], lr=settings.table_learning_rate)
    rows = sum(len(window.asked) for window in windows)
    epochs = settings.epochs or min(max(_ROWS // max(rows, 1), 1), _EPOCHS_LIMIT)
    plan = [_batches(windows, settings.tokens_per_step, rng) for _ in range(epochs)]
    steps = sum(len(batches) for batches in plan)
    schedule = torch.optim.lr_scheduler.LambdaLR(dense, lambda step: rate_at(step, steps))
    done = 0
    for batches in plan:
        with torch.no_grad():
            table.copy_(first)
        sparse.state.clear()
        for batch in batches:
            loss = _loss(net, _hidden(sequences.batch(batch), settings.item_drop, chance), settings)
            optimisers = (dense, sparse)
            for optimiser in optimisers:
                optimiser.zero_grad()
            torch.autograd.backward(loss)
            for optimiser in optimisers:
                optimiser.step()
            schedule.step()
            done += 1
            on_progress(done / steps)


def _batches(
    windows: Sequence[Window], tokens: int, rng: np.random.Generator
) -> list[list[Window]]:
    """Windows of about one length together, each batch of about so many tokens or candidates, in
    random order."""
    sizes = np.array([max(each.stop - each.first, len(each.asked)) for each in windows])
    jitter = rng.random(len(windows)) * 16
    order = np.argsort(sizes + jitter, kind="stable")
    batches: list[list[Window]] = [[]]
    widest = 0
    for number in order.tolist():
        widest = max(widest, int(sizes[number]))
        if batches[-1] and widest * (len(batches[-1]) + 1) > tokens:
            batches.append([])
            widest = int(sizes[number])
        batches[-1].append(windows[number])
    return [batches[at] for at in rng.permutation(len(batches)).tolist()]


def _hidden(examples: SequenceBatch, rate: float, chance: torch.Generator) -> SequenceBatch:
    """Some items are hidden, so that the model does not rest on them alone."""

    def some(items: Tensor) -> Tensor:
        return items.masked_fill(torch.rand(items.shape, generator=chance) < rate, 0)

    history, asked = (
        part._replace(items=some(part.items)) for part in (examples.history, examples.asked)
    )
    return examples._replace(history=history, asked=asked)


def _loss(net: FoundationNet, examples: SequenceBatch, settings: FoundationFit) -> Tensor:
    found: Pairs = net(examples.history, examples.asked, examples.seen)
    there = torch.from_numpy(examples.rows >= 0)
    labels = examples.labels[there]
    return (
        multi_task_loss(found.logits[there], labels)
        + multi_task_loss(found.compressed_logits[there], labels)
        + settings.lost_weight * found.lost[there].mean()
    )


@torch.inference_mode()
def foundation_scores(
    net: FoundationNet,
    sequences: Sequences,
    windows: Sequence[Window],
    rows: int,
    compressed: bool = False,
) -> F32:
    """Probabilities of the model itself: float32 [rows of the trace, tasks], NaN where not asked.

    compressed: from the pair embedding alone."""
    scores: F32 = np.full((rows, len(net.shape.tasks)), np.nan, np.float32)
    for batch in _batches(windows, 4096, np.random.default_rng(0)):
        examples = sequences.batch(batch)
        found: Pairs = net(examples.history, examples.asked, examples.seen)
        logits = found.compressed_logits if compressed else found.logits
        there = examples.rows >= 0
        scores[examples.rows[there]] = torch.sigmoid(logits).numpy()[there]
    return scores
