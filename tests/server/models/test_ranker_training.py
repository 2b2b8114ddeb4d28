"""The torch twin and the served ranker are one model."""

import numpy as np
import pytest
import torch
from model_cases import PAIR_RANKER, RANKER, rank_batch, ranker

from predawn.server.models.item_table import embedding_rows
from predawn.server.models.ranker import Ranker, RankerShape
from predawn.server.models.ranker_training import Candidates, fit_standard
from predawn.server.request import Source


@pytest.mark.parametrize("shape", [RANKER, PAIR_RANKER])
def test_the_served_ranker_and_its_twin_agree(shape: RankerShape) -> None:
    parts = ranker(shape=shape)
    counts = [7, 1, 0, 30]
    batch = rank_batch(counts, parts.items, shape=shape)
    statistics = parts.items.features()[parts.items.find(batch.item_hashes)]
    candidates = Candidates(
        torch.from_numpy(embedding_rows(batch.item_hashes, shape.embedding_rows)),
        torch.from_numpy(statistics[:, -1].copy()),
        torch.from_numpy((statistics - parts.standard.mean) / parts.standard.std),
        torch.from_numpy(parts.encoding.encode(batch.item_features)),
    )
    logits = parts.net(
        torch.from_numpy(batch.user),
        torch.from_numpy(batch.sources.astype(np.int64)),
        torch.from_numpy(np.repeat(np.arange(4), counts)),
        candidates,
        torch.from_numpy(batch.pairs),
        torch.from_numpy(batch.pair_sources.astype(np.int64)),
    )
    expected = torch.sigmoid(logits).detach().numpy()
    got = Ranker(shape, parts.tensors).score(batch)
    assert np.ptp(got) > 0.2
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [RANKER, PAIR_RANKER])
def test_every_parameter_of_the_twin_is_in_the_snapshot(shape: RankerShape) -> None:
    parts = ranker(shape=shape)
    names = {name.removesuffix(".weight") for name, _ in parts.net.named_parameters()}
    assert names <= parts.tensors.keys()


def test_without_pairs_every_pair_is_a_missing_one() -> None:
    parts = ranker(shape=PAIR_RANKER)
    batch = rank_batch([6], parts.items, shape=PAIR_RANKER)
    statistics = torch.zeros((6, parts.tensors["statistics"].shape[0]))
    dense = torch.zeros((6, parts.tensors["dense"].shape[0]))
    candidates = Candidates(torch.arange(6), torch.ones(6), statistics, dense)
    user, sources = torch.from_numpy(batch.user), torch.zeros((1, 1), dtype=torch.int64)
    request = torch.zeros(6, dtype=torch.int64)
    missing = torch.full((6, 2), int(Source.DEFAULT))
    net = parts.net
    absent = net(user, sources, request, candidates)
    nowhere = net(user, sources, request, candidates, torch.from_numpy(batch.pairs), missing)
    assert torch.equal(absent, nowhere) and torch.isfinite(absent).all()


def test_a_constant_statistic_is_not_divided_by_zero() -> None:
    standard = fit_standard(np.array([[1, 2], [1, 4]], np.float32))
    assert standard.std.tolist() == [1, 1]
    assert standard.mean.tolist() == [1, 3]
