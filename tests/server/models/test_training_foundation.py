"""The foundation model learns from a log, repeats by seed, and leaves what is counted alone."""

import numpy as np
import torch
from model_cases import small_trace

from predawn.server.models.foundation import FoundationNet, untrained_foundation
from predawn.server.models.foundation_shape import named_foundation
from predawn.server.models.training_data import known_labels
from predawn.server.models.training_foundation import (
    FoundationFit,
    fit_foundation,
    foundation_scores,
)
from predawn.server.models.training_metrics import auc
from predawn.server.models.training_sequences import Sequences
from predawn.server.traces import EVENT_TYPES

SHAPE = named_foundation("tiny", types=5, tasks=("click", "like"))
TRACE = small_trace(700)
LABELS = known_labels(TRACE, SHAPE.tasks)
CUT = int(TRACE.offsets[560])


def trained(seed: int, epochs: int) -> tuple[FoundationNet, list[float]]:
    net = untrained_foundation(SHAPE, 0)
    sequences = Sequences(TRACE, LABELS, CUT, SHAPE, EVENT_TYPES)
    shares: list[float] = []
    settings = FoundationFit(
        epochs=epochs, item_drop=0.1, learning_rate=4e-3, table_learning_rate=4e-3, weight_decay=0.1
    )
    windows = sequences.windows(np.ones(CUT, np.bool_))
    fit_foundation(net, sequences, windows, settings, seed, shares.append)
    return net, shares


def test_it_learns_what_decides_the_labels() -> None:
    net, shares = trained(0, epochs=8)
    assert shares == sorted(shares) and shares[-1] == 1.0
    asked = np.arange(TRACE.rows) >= CUT
    sequences = Sequences(TRACE, LABELS, TRACE.rows, SHAPE, EVENT_TYPES)
    windows = sequences.windows(asked)
    for compressed in (False, True):
        scores = foundation_scores(net, sequences, windows, TRACE.rows, compressed)
        assert np.isnan(scores[:CUT]).all() and np.isfinite(scores[CUT:]).all()
        reached = auc(LABELS[CUT:, 0], scores[CUT:, 0])
        assert reached is not None and reached > 0.75


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two, other = (trained(seed, epochs=1)[0] for seed in (3, 3, 4))
    assert torch.equal(one.encode_w, two.encode_w) and torch.equal(
        one.items.weight, two.items.weight
    )
    assert not torch.equal(one.encode_w, other.encode_w)
    assert torch.equal(one.statistics, untrained_foundation(SHAPE, 0).statistics)
