"""Modules and programs get the fields that their `forward` names, and give float32 back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import rank_batch, ranker, user_batch
from torch import Tensor, nn

from predawn.server.models import adapted
from predawn.server.models.adapted import (
    PAIR_FIELDS,
    RANK_FIELDS,
    USER_FIELDS,
    TensorFunction,
    TensorPairModel,
    TensorRanker,
    TensorUserModel,
    of_module,
    of_program,
)
from predawn.server.request import PairBatch


class Reading(nn.Module):
    """Some fields in an order of its own, and a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, counts: Tensor, users: Tensor, items: Tensor) -> Tensor:
        newest = (items[:, 0] % 1000).float()
        return torch.stack([counts.sum(1) * self.weight, (users >> 60).float(), newest], 1)


class Crossing(nn.Module):
    def forward(self, counts: Tensor, row_user: Tensor, item_hashes: Tensor) -> Tensor:
        return torch.stack([counts[row_user].sum(1), (item_hashes & 1023).double()], 1)


class Scoring(nn.Module):
    def forward(self, user: Tensor, row_user: Tensor, item_features: Tensor) -> Tensor:
        return user[row_user].sum(1, keepdim=True) + item_features


def test_a_user_module_reads_fields_by_name_and_order() -> None:
    batch = user_batch(5)
    model = TensorUserModel(of_module(Reading(), "cpu", USER_FIELDS), 3)
    found = model.embed(batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], batch.counts.sum(1) * 2, rtol=1e-6)
    np.testing.assert_array_equal(found[:, 1], (batch.users.view(np.int64) >> 60))
    np.testing.assert_array_equal(found[:, 2], batch.items[:, 0].view(np.int64) % 1000)


def test_a_pair_module_gets_a_user_for_every_row() -> None:
    users = user_batch(4)
    offsets = np.array([0, 2, 2, 5, 6])
    batch = PairBatch(users, offsets, np.arange(2**63, 2**63 + 6, dtype=np.uint64))
    model = TensorPairModel(of_module(Crossing(), "cpu", PAIR_FIELDS), 2)
    owner = np.array([0, 0, 2, 2, 2, 3])
    found = model.embed_pairs(batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], users.counts[owner].sum(1), rtol=1e-6)
    np.testing.assert_array_equal(found[:, 1], np.arange(6))


def test_a_ranking_module_gets_a_request_for_every_candidate() -> None:
    batch = rank_batch([2, 0, 3, 1], ranker().items)
    model = TensorRanker(of_module(Scoring(), "cpu", RANK_FIELDS), ("a", "b"), ("x", "y"))
    owner = np.repeat(np.arange(4), np.diff(batch.offsets))
    expected = batch.user[owner].sum(1, keepdims=True) + batch.item_features
    np.testing.assert_allclose(model.score(batch), expected, rtol=1e-5, atol=1e-5)
    assert not model.inline


def test_a_program_does_what_its_module_does(tmp_path: Path) -> None:
    path = str(tmp_path / "reading.pt2")
    batch = user_batch(7)
    example = tuple(
        adapted._as_tensor(adapted.user_fields(user_batch(3))[name], "cpu")
        for name in ("counts", "users", "items")
    )
    users = {0: torch.export.Dim("users")}
    program = torch.export.export(Reading(), example, dynamic_shapes=(users,) * 3)
    torch.export.save(program, path)
    loaded = of_program(path, "cpu", USER_FIELDS)
    assert loaded.reads == ("counts", "users", "items")
    expected = of_module(Reading(), "cpu", USER_FIELDS)(adapted.user_fields(batch))
    np.testing.assert_array_equal(loaded(adapted.user_fields(batch)), expected)


def test_a_program_with_keywords_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "keywords.pt2")
    counts = torch.zeros(2, 5)
    keywords = {"user": counts, "row_user": torch.zeros(3, dtype=torch.int64)}
    features = torch.zeros(3, 1)
    torch.export.save(
        torch.export.export(Scoring(), (), keywords | {"item_features": features}), path
    )
    with pytest.raises(ValueError, match="positional"):
        of_program(path, "cpu", RANK_FIELDS)


class Unknown(nn.Module):
    def forward(self, itmes: Tensor) -> Tensor:
        return itmes


class Anything(nn.Module):
    def forward(self, *fields: Tensor) -> Tensor:
        return fields[0]


def test_a_field_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match=r"reads 'itmes'; there are users, items"):
        of_module(Unknown(), "cpu", USER_FIELDS)
    with pytest.raises(ValueError, match="name the fields"):
        of_module(Anything(), "cpu", USER_FIELDS)


@pytest.mark.parametrize("returned", [3.0, (torch.zeros(2, 2),), None])
def test_what_is_no_tensor_is_an_error(returned: object) -> None:
    function = TensorFunction(lambda counts: returned, ("counts",))
    with pytest.raises(TypeError, match="not a tensor"):
        function(adapted.user_fields(user_batch(2)))


def test_integers_are_no_embedding() -> None:
    function = TensorFunction(lambda counts: counts.long(), ("counts",))
    with pytest.raises(TypeError, match="int64"):
        function(adapted.user_fields(user_batch(2)))


def test_an_adapter_leaves_no_gradient_and_no_training_mode() -> None:
    module = Reading().train()
    function = of_module(module, "cpu", USER_FIELDS)
    function(adapted.user_fields(user_batch(2)))
    assert not module.training and module.weight.grad is None
