"""Torch on the CPU and the kernels' path compute the net's blocks; rows do not see each other."""

import numpy as np
import pytest
import torch
from foundation_cases import SHAPE, foundation, pair_batch, true_embeddings

from predawn.server.models.foundation_layers import CpuLayers, DeviceLayers, Layers, computing_dtype
from predawn.server.models.foundation_model import FoundationModel
from predawn.server.models.foundation_shape import FoundationShape, named_foundation

PAGES = 40
DEEP = FoundationShape(5, 2, ("click",), heads=2, head_dim=32, layers=4, length=64, tap=3)


def layers_of(kind: str, shape: FoundationShape, dtype: torch.dtype) -> Layers:
    net = foundation(shape)
    if kind == "cpu":
        return CpuLayers(net, PAGES, dtype, tile=48)
    return DeviceLayers(net, PAGES, dtype, "cpu", tile=48)


@pytest.mark.parametrize("kind", ["cpu", "device"])
@pytest.mark.parametrize("shape", [SHAPE, DEEP], ids=["tiny", "deep"])
def test_float32_is_the_net(kind: str, shape: FoundationShape) -> None:
    """Users with none to many events, candidates of none, one and several passes."""
    batch = pair_batch([3, 0, 1, 17, 130, 5])
    truth = true_embeddings(foundation(shape), batch)
    layers = layers_of(kind, shape, torch.float32)
    model = FoundationModel(foundation(shape), pages=PAGES, layers=layers)
    got = model.embed_pairs(batch)
    assert got.dtype == np.float32 and got.shape == (156, shape.dim)
    assert truth.std() > 0.1
    np.testing.assert_allclose(got, truth, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["cpu", "device"])
def test_bfloat16_is_the_net_within_its_rounding(kind: str) -> None:
    batch = pair_batch([3, 0, 1, 17, 130, 5])
    truth = true_embeddings(foundation(DEEP), batch)
    layers = layers_of(kind, DEEP, torch.bfloat16)
    got = FoundationModel(foundation(DEEP), pages=PAGES, layers=layers).embed_pairs(batch)
    error = np.sqrt(np.square(got - truth).mean() / np.square(truth).mean())
    assert 1e-4 < error < 1.5e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_padded_rows_do_not_change_rows_to_the_last_bit(dtype: torch.dtype) -> None:
    """What the CPU path rests on: blocks of 16 rows are treated alike, whatever their number."""
    shape = named_foundation("small", types=5)
    net = foundation(shape)
    chance = torch.Generator().manual_seed(0)
    x = torch.randn((96, shape.width), generator=chance).to(dtype)
    layers = CpuLayers(net, 16, dtype)
    work = layers.begin([], causal=False)
    whole = layers.layer(0, x, work)
    for first in range(0, 96, 16):
        for rows in (16, 32, 48, 96):
            part = layers.layer(0, x[first : first + rows].clone(), work)
            assert torch.equal(part, whole[first : first + rows])


def test_the_dtype_is_the_model_s_and_never_half() -> None:
    assert computing_dtype(named_foundation("small", types=5), "cpu") == torch.float32
    assert computing_dtype(named_foundation("medium", types=5), "cpu") in (
        torch.bfloat16,
        torch.float32,
    )
    assert computing_dtype(named_foundation("tiny", types=5), "cuda") == torch.bfloat16
