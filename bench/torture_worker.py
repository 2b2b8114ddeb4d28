"""A process that tortures a store until it is told to stop, or killed: no logic, little to import.

Run by bench/torture_crew.py as `python -m predawn.bench.torture_worker STORE ORACLE NUMBER SEED`.
"""

import sys

from predawn.csrc import _torture


def main(arguments: list[str]) -> None:
    """STORE, ORACLE: paths. NUMBER: of this worker, whose keys it owns."""
    store, oracle, number, seed = arguments
    _torture.die_with_parent()
    _torture.work(store, oracle, int(number), 1, int(seed))


if __name__ == "__main__":
    main(sys.argv[1:])
