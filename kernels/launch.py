"""Chooses who computes: the Triton kernel on a CUDA device, the torch reference elsewhere.

A kernel's Triton half is imported when it is first chosen, so never on a machine without a device.
"""

import importlib.util
from functools import cache

import torch
from torch import Tensor


def use_triton(*tensors: Tensor) -> bool:
    """True if all tensors are on a CUDA device, none needs a gradient and Triton is installed."""
    if not all(tensor.is_cuda for tensor in tensors):
        return False
    wants_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return not wants_grad and has_triton()


@cache
def has_triton() -> bool:
    """Whether Triton is installed; asked once."""
    return importlib.util.find_spec("triton") is not None
