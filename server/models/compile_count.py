"""How many Triton kernels were compiled since everything was warm.

Invariant: torch is not imported for it: where no model has, nothing can be compiled.
"""

import sys
from collections.abc import Callable


def compile_counter() -> Callable[[], int]:
    """A function that says how many kernels were compiled since this call."""
    if "torch" not in sys.modules:
        return int

    from predawn.kernels.compiles import watch

    counter = watch()
    return lambda: counter.count
