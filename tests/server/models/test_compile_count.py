"""Compiled kernels are counted where something could compile, and torch is not imported for it."""

import subprocess
import sys

import pytest
import torch

from predawn.kernels import compiles
from predawn.server.models.compile_count import compile_counter


class Counted:
    count = 0


def test_what_is_compiled_after_the_call_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.__version__  # has been imported, so something could compile
    counted = Counted()
    monkeypatch.setattr(compiles, "watch", lambda: counted)
    count = compile_counter()
    assert count() == 0
    counted.count = 3
    assert count() == 3


def test_a_process_without_torch_counts_nothing_and_imports_nothing() -> None:
    program = (
        "import sys; from predawn.server.models.compile_count import compile_counter;"
        "sys.exit(bool(compile_counter()()) or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
