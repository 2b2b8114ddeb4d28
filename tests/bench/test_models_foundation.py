"""The foundation model's cases run, agree with the plain net, and are held against a product."""

import math
import os

import numpy as np
import pytest
import torch

from predawn.bench import harness, models_foundation
from predawn.bench.harness import BenchError
from predawn.server.models.foundation_shape import named_foundation
from predawn.server.models.foundation_tokens import histories

MARK = harness.Stamp("models", "abc", "cpu x2")

torch.set_num_threads(1)


def test_every_case_gives_its_rates_and_leaves_torch_as_it_was() -> None:
    rows = models_foundation.rows(MARK, effort=harness.SMOKE, smoke=True)
    assert torch.get_num_threads() == 1
    pairs, tokens = (
        [row for row in rows if row.metric == f"{what}_a_second"] for what in ("pairs", "tokens")
    )
    threads = len({1, os.cpu_count() or 1})
    assert len(pairs) == len(tokens) == threads
    for row in (*pairs, *tokens):
        assert math.isfinite(row.value) and row.value > 0 and row.share_of_limit
    assert all(row.peer == "plain net, nothing kept" and row.ratio for row in pairs)
    extended = [row for row in rows if row.peer == "encoded anew"]
    assert len(extended) == 2 * threads and all(row.ratio for row in extended)


def test_only_the_cases_asked_for_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(models_foundation, "scene", made.append)
    effort = harness.Effort(rounds=1, slice_ms=0.1, only="ranker")
    assert models_foundation.rows(MARK, effort=effort, smoke=True) == [] and not made


def test_scenes_differ_where_they_say() -> None:
    scene = models_foundation.scene("tiny")
    every = (scene.short, scene.changed, scene.longest, *scene.anew)
    short, changed, longest, same, other = (histories(users, 64)[0] for users in every)
    assert len(short) == len(changed) == len(other) == len(longest) == 64
    np.testing.assert_array_equal(short[:-10], changed[:-10])
    assert (short[-10:] != changed[-10:]).any(axis=1).all()
    np.testing.assert_array_equal(short[1:, 0], other[1:, 0])
    assert short[0, 0] != other[0, 0]
    np.testing.assert_array_equal(short, same)
    assert scene.short.users != scene.anew[0].users == scene.anew[1].users


def test_users_alike_have_ids_of_their_own() -> None:
    scene = models_foundation.scene("tiny")
    several = models_foundation.alike(scene.short, 3)
    assert len(set(several.users.tolist())) == 3
    assert not set(several.users.tolist()) & set(models_foundation.alike(scene.anew[0], 3).users)
    assert (several.items == scene.short.items).all() and several.items.shape[0] == 3


def test_a_model_that_computes_something_else_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = models_foundation.scene

    def wrong(size: str) -> models_foundation.Scene:
        scene = made(size)
        with torch.no_grad():
            scene.net.item_in.mul_(1.5)
        return scene

    monkeypatch.setattr(models_foundation, "scene", wrong)
    with pytest.raises(BenchError, match="something else"):
        models_foundation.rows(MARK, effort=harness.SMOKE, smoke=True)


def test_work_is_what_the_layers_up_to_the_tap_multiply() -> None:
    small = named_foundation("small", types=5)
    assert models_foundation.pair_flop(small, 256) == 3 * (10 * 128**2 + 4 * 256 * 128)
    assert (
        models_foundation.token_flop(small, 256) == 2 * (10 * 128**2 + 2 * 256 * 128) + 4 * 128**2
    )
