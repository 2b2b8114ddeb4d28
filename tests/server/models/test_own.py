"""Whatever a factory returns becomes a model of its kind, or is refused with what came."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import user_batch
from torch import Tensor, nn

from predawn.server.models.own import Trial, adapted, from_program
from predawn.server.request import F32, PairBatch, UserBatch

TRIAL = Trial(types=5, attributes=2, length=12)


class Counting(nn.Module):
    def forward(self, counts: Tensor) -> Tensor:
        return torch.cat([counts, counts * 2], 1)


class PairCounting(nn.Module):
    def forward(self, counts: Tensor, row_user: Tensor) -> Tensor:
        return counts[row_user]


class Vector(nn.Module):
    def forward(self, counts: Tensor) -> Tensor:
        return counts.sum(1)


class Scoring(nn.Module):
    tasks, item_features = ("click",), ("price",)

    def forward(self, item_features: Tensor) -> Tensor:
        return item_features.sigmoid()


class Ready:
    dim = 4

    def embed(self, batch: UserBatch) -> F32:
        return np.zeros((len(batch.users), 4), np.float32)


def test_a_model_with_its_members_is_taken_as_it_is() -> None:
    ready = Ready()
    assert adapted("user", ready, TRIAL, lambda: "cpu") is ready


def test_a_trial_finds_the_width_of_a_module() -> None:
    model: Any = adapted("user", Counting(), TRIAL, lambda: "cpu")
    pair_model: Any = adapted("pair", PairCounting(), TRIAL, lambda: "cpu")
    assert (model.dim, pair_model.dim) == (10, 5)


def test_a_ranking_module_keeps_its_names() -> None:
    ranker = adapted("ranker", Scoring(), TRIAL, lambda: "cpu")
    assert ranker.tasks == ("click",)  # type: ignore[attr-defined]
    assert ranker.item_features == ("price",)  # type: ignore[attr-defined]


def test_functions_of_batches_are_models() -> None:
    def embed(batch: UserBatch) -> F32:
        return batch.counts[:, :3]

    def pairs(batch: PairBatch) -> F32:
        return batch.users.counts.repeat(np.diff(batch.offsets), axis=0)

    model: Any = adapted("user", embed, TRIAL, lambda: "cpu")
    pair_model: Any = adapted("pair", pairs, TRIAL, lambda: "cpu")
    assert (model.dim, pair_model.dim) == (3, 5)
    batch = user_batch(4)
    np.testing.assert_array_equal(model.embed(batch), batch.counts[:, :3])


def test_a_function_is_no_ranker() -> None:
    assert adapted("ranker", len, TRIAL, lambda: "cpu") is len  # `load_ranker` says what is missing


def test_a_trial_with_a_wrong_shape_says_what_came() -> None:
    with pytest.raises(ValueError, match=r"returned \[1\], expected float32 \[1, values\]"):
        adapted("user", Vector(), TRIAL, lambda: "cpu")
    with pytest.raises(ValueError, match="returned str"):
        adapted("user", lambda batch: "rows", TRIAL, lambda: "cpu")


def saved(module: nn.Module, path: Path, *example: Tensor) -> str:
    rows = {0: torch.export.Dim("rows")}
    program = torch.export.export(module, example, dynamic_shapes=(rows,) * len(example))
    torch.export.save(program, str(path))
    return str(path)


def test_a_program_is_a_model_of_its_kind(tmp_path: Path) -> None:
    user = saved(Counting(), tmp_path / "user.pt2", torch.zeros(3, 5))
    assert from_program("user", user, {}, TRIAL, "cpu").dim == 10  # type: ignore[attr-defined]
    scoring = saved(Scoring(), tmp_path / "ranker.pt2", torch.zeros(3, 1))
    names = {"tasks": "click, like", "item_features": "price"}
    ranker = from_program("ranker", scoring, names, TRIAL, "cpu")
    assert ranker.tasks == ("click", "like")  # type: ignore[attr-defined]


def test_an_option_that_a_program_does_not_take_is_named(tmp_path: Path) -> None:
    user = saved(Counting(), tmp_path / "user.pt2", torch.zeros(3, 5))
    with pytest.raises(ValueError, match="option 'depth'"):
        from_program("user", user, {"depth": 2}, TRIAL, "cpu")


def test_a_model_without_torch_does_not_import_it() -> None:
    code = (
        "import sys; from predawn.server.models.own import Trial, adapted;"
        "adapted('user', lambda batch: batch.counts, Trial(5, 2, 8), lambda: 'cpu');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
