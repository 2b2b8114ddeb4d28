"""The tower on a device: graphs captured beforehand, the same rows as without them."""

import numpy as np
import pytest
import torch
from device_cases import Host
from model_cases import PRIOR, some_users, tower, user_batch

from predawn.server.models.compile_count import compile_counter
from predawn.server.models.user_tower import UserTower

PRIOR_32 = PRIOR.astype(np.float32)


def test_a_prepared_tower_launches_graphs_and_gives_the_same_rows() -> None:
    host = Host()
    plain, prepared = UserTower(tower(), PRIOR_32), UserTower(tower(), PRIOR_32, "cpu", host)
    batch = user_batch(70)
    prepared.prepare(batch)
    assert host.captures == 2  # 64 and 96 rows
    for rows in (1, 64, 65, 70):
        some = some_users(batch, np.arange(rows))
        np.testing.assert_allclose(prepared.embed(some), plain.embed(some), atol=1e-6, rtol=0)
    assert host.log.count("launch") == 4 and host.captures == 2


def test_a_batch_larger_than_any_graph_runs_without_one() -> None:
    host = Host()
    prepared = UserTower(tower(), PRIOR_32, "cpu", host)
    prepared.prepare(user_batch(8))
    batch = user_batch(65)
    expected = UserTower(tower(), PRIOR_32).embed(batch)
    np.testing.assert_array_equal(prepared.embed(batch), expected)
    assert "launch" not in host.log


def test_a_tower_on_the_cpu_prepares_nothing() -> None:
    plain = UserTower(tower(), PRIOR_32)
    batch = user_batch(3)
    expected = plain.embed(batch)
    plain.prepare(batch)
    np.testing.assert_array_equal(plain.embed(batch), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_graphs_on_a_device_agree_with_float64() -> None:
    prepared = UserTower(tower(), PRIOR_32, "cuda")
    batch = user_batch(70)
    prepared.prepare(batch)
    expected = UserTower(tower(), PRIOR_32).embed(batch)
    for rows in (70, 1, 64):
        some = some_users(batch, np.arange(rows))
        np.testing.assert_allclose(prepared.embed(some), expected[:rows], atol=2e-4, rtol=2e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_prepared_tower_compiles_nothing_more() -> None:
    prepared = UserTower(tower(), PRIOR_32, "cuda")
    batch = user_batch(70)
    prepared.prepare(batch)
    prepared.embed(batch)
    compiled = compile_counter()
    for rows in range(1, 71):
        prepared.embed(some_users(batch, np.arange(rows)))
    assert compiled() == 0
