"""Counts the kernels that Triton compiles after a mark: in serving there must be none.

A kernel that meets arguments of another type or a constant of another value is compiled while a
request waits, for seconds. Whoever warms up says when it is done and watches from there.

Invariant: Triton is imported only where it could compile at all (a CUDA device is there) or where
something else has imported it; elsewhere the count stays 0. Kernels read from Triton's cache on
disk count too: they were not ready.
"""

import importlib
import sys
from threading import Lock
from typing import Protocol, cast

import torch

from predawn.kernels import launch


class _Hook(Protocol):
    def __call__(self, **told: object) -> object: ...


class _RuntimeKnobs(Protocol):
    jit_post_compile_hook: _Hook | None


class Compiles:
    """`count` kernels were compiled since it was made, by any thread of the process."""

    def __init__(self, runtime: _RuntimeKnobs | None) -> None:
        self.count = 0
        self._lock = Lock()
        self._runtime = runtime
        self._before = runtime.jit_post_compile_hook if runtime else None
        if runtime:
            runtime.jit_post_compile_hook = self._compiled

    def stop(self) -> None:
        """Counts no more; counters that were made later must have been stopped before."""
        if self._runtime:
            self._runtime.jit_post_compile_hook = self._before

    def _compiled(self, **told: object) -> object:
        with self._lock:
            self.count += 1
        return self._before(**told) if self._before else None


def watch() -> Compiles:
    """A counter that begins at 0 now. A hook that was set before is called all the same."""
    return Compiles(_runtime())


def _runtime() -> _RuntimeKnobs | None:
    can_compile = torch.cuda.is_available() and launch.has_triton()
    if not can_compile and "triton" not in sys.modules:
        return None
    return cast("_RuntimeKnobs", importlib.import_module("triton").knobs.runtime)
