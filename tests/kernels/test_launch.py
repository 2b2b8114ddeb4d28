"""Who computes: decided by device, gradients and what is installed."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from predawn.kernels import launch


@pytest.fixture
def on_gpu() -> torch.Tensor:
    """A tensor that says it is on a CUDA device."""
    with FakeTensorMode():
        return torch.empty(2, device="cuda")


@pytest.fixture(autouse=True)
def _forget() -> None:
    launch.has_triton.cache_clear()


def test_cpu_tensors_take_the_reference() -> None:
    assert not launch.use_triton(torch.zeros(2))


def test_cuda_tensors_take_the_kernel(on_gpu: torch.Tensor) -> None:
    pytest.importorskip("triton", reason="needs Triton")
    assert launch.use_triton(on_gpu, on_gpu)
    assert not launch.use_triton(on_gpu, torch.zeros(2))


def test_gradients_take_the_reference(on_gpu: torch.Tensor) -> None:
    pytest.importorskip("triton", reason="needs Triton")
    wanted = on_gpu.clone().requires_grad_()
    assert not launch.use_triton(wanted)
    with torch.inference_mode():
        assert launch.use_triton(wanted)


def test_without_triton_the_reference_computes(
    on_gpu: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not launch.use_triton(on_gpu)
