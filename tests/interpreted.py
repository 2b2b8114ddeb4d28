"""Import before a Triton kernel: without a CUDA device its programs run in Triton's interpreter.

Triton takes that choice when it is imported (its own library functions are kernels too), so it
holds for the whole test session.
"""

import os
import sys

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

if DEVICE == "cpu":
    late = "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1"
    assert not late, "something imported triton before tests/interpreted.py could choose"
    os.environ["TRITON_INTERPRET"] = "1"
triton = pytest.importorskip("triton", reason="needs Triton")
