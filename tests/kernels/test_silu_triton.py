"""SiLU on a device: exact in float32 at every size of argument; the fast one keeps its bound."""

import pytest
import torch
from interpreted import DEVICE, triton
from triton import language as tl

from predawn.kernels.silu_triton import read_silu, silu

EDGES = [0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0, 20.0, -20.0, 88.0, -88.0, 104.0, -104.0, 1e4, -1e4]


@triton.jit
def _apply(x_ptr, out_ptr, FAST: tl.constexpr, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(out_ptr + at, silu(tl.load(x_ptr + at), FAST))


@triton.jit
def _apply_read(x_ptr, out_ptr, count, UPCAST: tl.constexpr, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(out_ptr + at, read_silu(x_ptr + at, at < count, False, UPCAST).to(tl.float32))


def _arguments() -> torch.Tensor:
    spread = torch.linspace(-30, 30, 512 - len(EDGES))
    return torch.cat([torch.tensor(EDGES), spread]).to(DEVICE)


def _silu(x: torch.Tensor, fast: bool) -> torch.Tensor:
    out = torch.full_like(x, torch.nan)
    _apply[(1,)](x, out, fast, x.numel())
    return out.double()


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
def test_silu_is_exact_in_float32() -> None:
    x = _arguments()
    exact = torch.nn.functional.silu(x.double())
    error = (_silu(x, False) - exact).abs()
    assert bool((error <= 5e-7 * exact.abs() + 1e-37).all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fast_silu_keeps_what_half_precision_keeps() -> None:
    x = _arguments()
    exact = torch.nn.functional.silu(x.double())
    error = (_silu(x, True) - exact).abs()
    assert bool((error <= 2**-10 * x.abs().double()).all())


def test_values_outside_are_zero() -> None:
    x, out = torch.full((64,), 2.0, device=DEVICE), torch.full((64,), torch.nan, device=DEVICE)
    _apply_read[(1,)](x, out, 40, True, 64)
    assert torch.equal(out[40:], torch.zeros(24, device=DEVICE))
    assert torch.allclose(out[:40], torch.nn.functional.silu(x[:40]))
