"""The torch twin and the numpy ranker are one model."""

import numpy as np
import torch
from model_cases import RANKER, rank_batch, ranker

from predawn.server.models.item_table import embedding_rows
from predawn.server.models.ranker import Ranker
from predawn.server.models.ranker_training import Candidates, fit_standard


def test_numpy_and_torch_agree() -> None:
    parts = ranker()
    counts = [7, 1, 0, 30]
    batch = rank_batch(counts, parts.items)
    statistics = parts.items.features()[parts.items.find(batch.item_hashes)]
    candidates = Candidates(
        torch.from_numpy(embedding_rows(batch.item_hashes, RANKER.embedding_rows)),
        torch.from_numpy(statistics[:, -1].copy()),
        torch.from_numpy((statistics - parts.standard.mean) / parts.standard.std),
        torch.from_numpy(parts.encoding.encode(batch.item_features)),
    )
    logits = parts.net(
        torch.from_numpy(batch.user),
        torch.from_numpy(batch.sources.astype(np.int64)),
        torch.from_numpy(np.repeat(np.arange(4), counts)),
        candidates,
    )
    expected = torch.sigmoid(logits).detach().numpy()
    got = Ranker(RANKER, parts.tensors).score(batch)
    assert np.ptp(got) > 0.2
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_every_parameter_of_the_twin_is_in_the_snapshot() -> None:
    parts = ranker()
    names = {name.removesuffix(".weight") for name, _ in parts.net.named_parameters()}
    assert names <= parts.tensors.keys()


def test_a_constant_statistic_is_not_divided_by_zero() -> None:
    standard = fit_standard(np.array([[1, 2], [1, 4]], np.float32))
    assert standard.std.tolist() == [1, 1]
    assert standard.mean.tolist() == [1, 3]
