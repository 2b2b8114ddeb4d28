"""The fit of a ranker alone: it lowers the loss, and item vectors can be held."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from training_log_cases import outcomes, read_log, served, write_log

from predawn.server.models.ranker import RankerShape, fit_encoding
from predawn.server.models.ranker_training import RankerNet, fit_standard, untrained_ranker
from predawn.server.models.training_fit import FitSettings
from predawn.server.models.training_log_examples import LogExamples, log_examples
from predawn.server.models.training_log_fit import LogFitter, fit_ranker

torch.set_num_threads(1)
SHAPE = RankerShape.of_size(
    "tiny", ("click",), ("price",), user=40, embedding_rows=64, pair=16, pair_models=1
)


def examples(directory: Path) -> LogExamples:
    seen = served(120, exact=True)
    rows = read_log(write_log(directory, seen))
    statistics = np.zeros((len(rows.items), 4), np.float32)
    encoding = fit_encoding(rows.item_features, SHAPE.bins)
    labels = outcomes(seen).labels["click"][:, None]
    return log_examples(rows, labels, statistics, SHAPE, encoding, fit_standard(statistics))


def ranker() -> RankerNet:
    vectors = torch.randn((65, 32), generator=torch.Generator().manual_seed(0))
    return untrained_ranker(SHAPE, nn.Embedding(65, 32, 0, _weight=vectors, sparse=True), 0)


def test_the_loss_falls_and_progress_ends_at_all(tmp_path: Path) -> None:
    made, net, shares = examples(tmp_path), ranker(), list[float]()
    every = np.arange(len(made.counts))
    settings = FitSettings(epochs=1, item_drop=0.0, pair_drop=0.0, learning_rate=0.0)
    before = LogFitter(net, settings, 0, 1).step(made, every)
    fit_ranker(net, made, FitSettings(epochs=12, rows_per_step=100), 0, shares.append)
    after = LogFitter(net, settings, 0, 1).step(made, every)
    assert after < before - 0.05
    assert shares[-1] == 1.0 and shares == sorted(shares) and len(shares) == 12 * 6


def test_item_vectors_stay_where_they_are_held_and_learn_where_not(tmp_path: Path) -> None:
    made = examples(tmp_path)
    for held in (True, False):
        net = ranker()
        first = net.embedding.weight.detach().clone()
        net.embedding.weight.requires_grad_(not held)
        fit_ranker(net, made, FitSettings(epochs=1), 0, lambda share: None)
        assert torch.equal(net.embedding.weight, first) is held


def test_a_pass_begins_with_the_item_vectors_of_the_start(tmp_path: Path) -> None:
    made, net = examples(tmp_path), ranker()
    first = net.embedding.weight.detach().clone()
    fitter = LogFitter(net, FitSettings(), 0, 2)
    fitter.step(made, np.arange(10))
    assert not torch.equal(net.embedding.weight, first)
    fitter.begin_epoch()
    assert torch.equal(net.embedding.weight, first)
