"""The loss is Eq. 8 over known labels; the steps learn, and repeat by seed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import RANKER, TOWER, tower

from predawn.server.models.ranker_training import Candidates, RankerNet, untrained_ranker
from predawn.server.models.training_examples import Examples
from predawn.server.models.training_fit import FitSettings, Fitter, fit, multi_task_loss, rate_at
from predawn.server.models.user_tower import State, TowerNet
from predawn.server.request import Source

STATES = 256


def learnable(seed: int = 0) -> Examples:
    """The first dense value of the user decides both labels of her one row."""
    draw = torch.Generator().manual_seed(seed)
    dense = torch.randn((STATES, TOWER.features.dense), generator=draw)
    label = (dense[:, :1] > 0).float()
    nothing = torch.zeros
    return Examples(
        states=State(
            nothing((STATES, TOWER.features.tables, 4), dtype=torch.int64),
            dense,
            nothing((STATES, 8), dtype=torch.int64),
            nothing((STATES, 8, 5), dtype=torch.bool),
        ),
        sources=nothing(STATES, dtype=torch.int64),
        starts=np.arange(STATES),
        counts=np.ones(STATES, np.int64),
        candidates=Candidates(
            nothing(STATES, dtype=torch.int64),
            nothing(STATES),
            nothing(STATES, 6),
            nothing(STATES, 16),
        ),
        labels=torch.cat([label, label], dim=1),
        requests=np.arange(STATES),
        at_ms=np.zeros(STATES, np.int64),
    )


def nets() -> tuple[TowerNet, RankerNet]:
    net = tower()
    return net, untrained_ranker(RANKER, net.items, 0)


def trained(seed: int) -> tuple[TowerNet, RankerNet, list[float]]:
    net, ranker = nets()
    shares: list[float] = []
    settings = FitSettings(epochs=12, rows_per_step=32, dense_drop=0.0)
    fit(net, ranker, learnable(), settings, seed, shares.append)
    return net, ranker, shares


def test_training_learns_and_tells_how_far_it_is() -> None:
    net, ranker, shares = trained(0)
    examples = learnable(seed=1)
    user = net(examples.states)
    logits = ranker(user, examples.sources[:, None], torch.arange(STATES), examples.candidates)
    right = ((logits[:, 0] > 0) == (examples.labels[:, 0] > 0)).float().mean()
    assert right > 0.7
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == 12 * 8


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two, other = trained(0)[1], trained(0)[1], trained(1)[1]
    assert torch.equal(one.out, two.out)
    assert not torch.equal(one.out, other.out)


def test_unknown_labels_do_not_count() -> None:
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.5]])
    labels = torch.tensor([[1.0, math.nan], [math.nan, 0.0]])
    known = [math.log1p(math.exp(-0.3)), math.log1p(math.exp(0.5))]
    assert float(multi_task_loss(logits, labels)) == pytest.approx(sum(known) / 2, rel=1e-6)
    assert float(multi_task_loss(logits, labels * math.nan)) == 0.0


@pytest.mark.parametrize("steps", [2, 3, 10, 1000])
def test_the_rate_rises_then_falls_to_nothing(steps: int) -> None:
    rates = [rate_at(step, steps) for step in range(steps + 1)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert max(rates[:-1]) > 0.5
    assert rates[-1] < 0.01
    assert rate_at(0, 1) == 1
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_some_pair_embeddings_are_hidden_or_filled_and_unknown_ones_never_shown() -> None:
    """Every source occurs; a filled one is the mean over the user's others of that step."""
    net, _ = nets()
    shape = replace(RANKER, pair=4, pair_models=1)
    ranker = untrained_ranker(shape, net.items, 0)
    fitter = Fitter(net, ranker, FitSettings(pair_drop=0.0), 0, 10)
    position = torch.arange(60).repeat_interleave(5)
    pairs = torch.arange(300.0)[:, None].repeat(1, 4) + 1
    pairs[::7] = torch.nan
    shown, sources = fitter.some_pairs(pairs, position)
    assert shown is not None and sources is not None
    assert set(sources[:, 0].tolist()) == {Source.DIRECT, Source.USER_MEAN, Source.DEFAULT}
    assert (sources[::7] == Source.DEFAULT).all() and shown.isfinite().all()
    direct = sources[:, 0] == Source.DIRECT
    assert torch.equal(shown[direct], pairs[direct])
    row = int(torch.nonzero(sources[:, 0] == Source.USER_MEAN)[0])
    state = slice(row // 5 * 5, row // 5 * 5 + 5)
    others = pairs[state].nan_to_num().sum(dim=0) - pairs[row].nan_to_num()
    known = int((~pairs[state, 0].isnan()).sum()) - 1
    assert torch.equal(shown[row], others / known)
    shares = direct.view(60, 5).float().mean(dim=1)
    assert shares.min() == 0 and shares.max() > 0.7
    assert fitter.some_pairs(None, position) == (None, None)
