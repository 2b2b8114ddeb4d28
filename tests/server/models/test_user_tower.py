"""The tower: rows stand alone, nothing is infinite, and a snapshot gives the same tower back."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import FEATURES, PRIOR, TOWER, some_users, tower, user_batch

from predawn.kernels.cross_lowrank import cross_lowrank
from predawn.server.models.user_features import user_features
from predawn.server.models.user_tower import (
    Level,
    UserTower,
    as_state,
    rms_norm,
    tower_from_tensors,
    tower_shape,
    tower_tensors,
    untrained_tower,
)
from predawn.server.stabilise import compress

PRIOR_32 = PRIOR.astype(np.float32)


def test_a_batch_of_one_gives_the_row_of_a_batch_of_many() -> None:
    model = UserTower(tower(), PRIOR_32)
    batch = user_batch(67)
    whole = model.embed(batch)
    alone = np.concatenate([model.embed(some_users(batch, np.array([b]))) for b in range(67)])
    np.testing.assert_allclose(alone, whole, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(compress(alone, "fp16"), compress(whole, "fp16"))


def test_other_users_of_the_batch_do_not_matter() -> None:
    model = UserTower(tower(), PRIOR_32)
    batch = user_batch(40)
    order = np.random.default_rng(1).permutation(40)
    np.testing.assert_array_equal(
        compress(model.embed(some_users(batch, order)), "fp16"),
        compress(model.embed(batch), "fp16")[order],
    )


def test_embeddings_have_shape_dtype_and_spread() -> None:
    out = UserTower(tower(), PRIOR_32).embed(user_batch(50))
    assert out.shape == (50, TOWER.dim) == (50, 64)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert out[:, :32].std(axis=0).min() > 0.05  # users differ in every value


def test_wild_inputs_stay_finite() -> None:
    batch = user_batch(20)
    batch.counts[:] = 4e9
    batch.attributes[:] = 3e38
    batch.ages_ms[:] = 2**62
    assert np.isfinite(UserTower(tower(), PRIOR_32).embed(batch)).all()


def test_every_parameter_takes_part() -> None:
    net = tower()
    state = as_state(user_features(user_batch(64), FEATURES, PRIOR))
    out = net(state._replace(dense=state.dense.float()))
    out.square().sum().backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.to_dense().abs().sum() > 0, name


def test_a_level_is_its_equations() -> None:
    """The module against a loop over one user that follows the docstring line by line."""
    level = Level(6, 3, 4, 2, torch.Generator().manual_seed(3)).double()
    level.cross_b.data += 0.3
    x, dense = torch.randn(2, 6, 4).double(), torch.randn(2, 1, 4).double()
    got = level(x, dense)
    gelu = torch.nn.functional.gelu
    for user in range(2):
        attention = torch.softmax(level.queries @ (x[user] @ level.key).T / 2, dim=1)
        c = (attention + level.mixing) @ x[user]
        t = c + level.token_down @ gelu(level.token_up @ rms_norm(c, level.scales[0]))
        y = t + gelu(rms_norm(t, level.scales[1]) @ level.channel_up) @ level.channel_down
        cross = level.cross_v @ level.cross_u
        z = c.flatten() * (y.flatten() @ cross + level.cross_b) + y.flatten()
        mixed = torch.cat([z.view(2, 4), dense[user]]) + level.residual @ x[user]
        expected = rms_norm(mixed, level.scales[2])
        torch.testing.assert_close(got[user], expected, rtol=1e-12, atol=1e-12)


def test_a_snapshot_gives_the_same_tower_back() -> None:
    net = tower(seed=5)
    described = json.loads(json.dumps(TOWER.describe()))
    assert tower_shape(described) == TOWER
    again = tower_from_tensors(described, tower_tensors(net, PRIOR_32), "cpu")
    batch = user_batch(9)
    expected = UserTower(net, PRIOR_32).embed(batch)
    np.testing.assert_array_equal(again.embed(batch), expected)


def test_a_longer_history_than_the_training_s_is_read_as_far_as_that_went() -> None:
    """So another model of the same server may be shown more of it."""
    net, batch = tower(seed=5), user_batch(30, history=12)
    described, tensors = TOWER.describe(), tower_tensors(net, PRIOR_32)
    short = replace(
        batch,
        **{name: getattr(batch, name)[:, :5] for name in ("items", "types", "ages_ms")},
        lengths=np.minimum(batch.lengths, 5),
    )
    cut = tower_from_tensors(described, tensors, "cpu", length=5)
    whole = tower_from_tensors(described, tensors, "cpu")
    np.testing.assert_array_equal(cut.embed(batch), whole.embed(short))
    assert not np.array_equal(cut.embed(batch), whole.embed(batch))


def test_parts_of_another_shape_are_refused() -> None:
    tensors = tower_tensors(tower(), PRIOR_32)
    described = TOWER.describe()
    with pytest.raises(RuntimeError, match="size mismatch"):
        tower_from_tensors(described | {"rank": 8}, tensors, "cpu")
    with pytest.raises(RuntimeError, match="Missing"):
        tower_from_tensors(described, {"prior": PRIOR_32}, "cpu")
    with pytest.raises(TypeError):
        tower_from_tensors(described | {"wings": 2}, tensors, "cpu")


def test_untrained_towers_are_reproducible_by_seed() -> None:
    one, two, other = (untrained_tower(TOWER, seed) for seed in (1, 1, 2))
    assert torch.equal(one.head, two.head)
    assert not torch.equal(one.head, other.head)


def test_eq_5_is_the_kernel_s_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every level calls cross_lowrank once, and its result is what the tower goes on with."""
    calls: list[tuple[torch.Tensor, ...]] = []

    def counted(*given: torch.Tensor) -> torch.Tensor:
        calls.append(given)
        return 2 * cross_lowrank(*given)

    model, batch = UserTower(tower(), PRIOR_32), user_batch(3)
    plain = model.embed(batch)
    monkeypatch.setattr("predawn.server.models.user_tower.cross_lowrank", counted)
    assert not np.allclose(model.embed(batch), plain)
    assert [tuple(given[0].shape) for given in calls] == [(3, 7 * 16), (3, 3 * 16)]
    assert all(tensor.dtype == torch.float64 for given in calls for tensor in given)


def test_float32_which_a_gpu_runs_agrees_with_float64() -> None:
    state = as_state(user_features(user_batch(200), FEATURES, PRIOR))
    with torch.inference_mode():
        narrow = tower()(state._replace(dense=state.dense.float()))
        wide = tower().double()(state)
    assert narrow.dtype == torch.float32
    assert wide.dtype == torch.float64
    error = (narrow.double() - wide).square().mean().sqrt()
    assert 0 < float(error) <= 1e-4 * float(wide.square().mean().sqrt())


def test_a_tower_on_the_cpu_imports_no_triton() -> None:
    code = """if True:
        import sys
        import numpy as np
        from model_cases import PRIOR, tower, user_batch
        from predawn.server.models.user_tower import UserTower
        UserTower(tower(), PRIOR.astype(np.float32)).embed(user_batch(2))
        sys.exit("triton" in sys.modules)"""
    tests = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": tests}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
