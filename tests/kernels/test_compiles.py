"""compiles: every compiled kernel is counted once, and no CPU server imports Triton for it."""

import os
import subprocess
import sys

import interpreted
import pytest

from predawn.kernels.compiles import watch

knobs = interpreted.triton.knobs


@pytest.fixture(autouse=True)
def _hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knobs.runtime, "jit_post_compile_hook", None)


def _compile_one() -> None:
    """What Triton does after each kernel that it compiled."""
    hook = knobs.runtime.jit_post_compile_hook
    if hook:
        hook(key="", repr="", fn=None, compile={}, is_manual_warmup=False, already_compiled=False)


def test_counts_from_the_mark_on_until_it_is_stopped() -> None:
    _compile_one()
    compiles = watch()
    assert compiles.count == 0
    _compile_one()
    _compile_one()
    assert compiles.count == 2
    compiles.stop()
    _compile_one()
    assert compiles.count == 2


def test_hook_that_was_there_is_called_and_comes_back() -> None:
    told: list[object] = []

    def keep(**what: object) -> bool:
        told.append(what["key"])
        return True

    knobs.runtime.jit_post_compile_hook = keep
    outer, inner = watch(), watch()
    assert knobs.runtime.jit_post_compile_hook(key="k") is True
    assert (outer.count, inner.count, told) == (1, 1, ["k"])
    inner.stop()
    outer.stop()
    assert knobs.runtime.jit_post_compile_hook is keep


def test_kernel_that_triton_compiles_is_counted() -> None:
    code = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile, make_backend
from predawn.kernels.compiles import watch
from predawn.kernels.cross_lowrank_triton import constants, cross_lowrank_kernel as kernel
fixed = constants(16, 16, 1, 2, True)
names = kernel.arg_names
signature = {n: "*bf16" if n.endswith("_ptr") else "i64" if n == "rows" else "constexpr"
             for n in names}
constants = {(names.index(n),): value for n, value in fixed.items() if n in names}
target = GPUTarget("cuda", 90, 32)
backend = make_backend(target)
options = backend.parse_options({"num_warps": 4})
kernel.ASTSource, kernel.compile = ASTSource, compile
kernel.device_caches[0] = ({}, {}, target, backend, None)
compiles = watch()
kernel._do_compile(((), ()), signature, 0, constants, options, {}, False)
assert compiles.count == 1, compiles.count
"""
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=env, timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(interpreted.DEVICE == "cuda", reason="needs a CUDA device to be absent")
def test_cpu_server_does_not_import_triton() -> None:
    code = """
import sys
from predawn.kernels.compiles import watch
compiles = watch()
assert compiles.count == 0
compiles.stop()
sys.exit("triton" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
