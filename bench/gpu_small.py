"""Every kernel once, at small shapes, judged: what a memory checker runs, and a first look.

`python -m predawn.bench.gpu_small` prints one line per kernel. Exit status: 0 all right, 1 one is
wrong, 2 no GPU.
"""

import sys
from collections.abc import Sequence

import torch

from predawn.bench.gpu_cases import Case
from predawn.bench.gpu_numerics import judge_case
from predawn.bench.gpu_plan import small_cases


def judged(cases: Sequence[Case]) -> int:
    """Prints the verdicts; 0, or 1 if one is not good."""
    good = True
    for case in cases:
        verdict = judge_case(case)
        good = good and verdict.good
        print(f"{case.name}: {'right' if verdict.good else 'WRONG'}, error {verdict.relative:.1e}")
    return 0 if good else 1


def main() -> int:
    """The exit status."""
    if not torch.cuda.is_available():
        print("predawn: gpu_small needs an NVIDIA GPU", file=sys.stderr)
        return 2
    return judged(small_cases("cuda"))


if __name__ == "__main__":
    sys.exit(main())
