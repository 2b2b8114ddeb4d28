"""Caches that Python users have, behind one shape: fill once, then read a batch of keys.

None of them is a dependency: `absent` names those that are not installed, so that a table says
which comparison it does not make.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from predawn.server.request import F32

_KEEP_S = 3600
_FACTORIES: dict[str, Callable[[Any, int], Any]] = {
    "cachetools": lambda module, size: module.TTLCache(maxsize=size, ttl=_KEEP_S),
    "cachebox": lambda module, size: module.TTLCache(size, _KEEP_S),
    "lru": lambda module, size: module.LRU(size),
}


def absent() -> tuple[str, ...]:
    """Peers that this machine cannot show."""
    return tuple(name for name in _FACTORIES if importlib.util.find_spec(name) is None)


def readers(rows: F32, positions: Sequence[int]) -> dict[str, Callable[[list[int]], F32]]:
    """By name: a filled cache's "give me the rows of these keys" (key k holds row k)."""
    found: dict[str, Callable[[list[int]], F32]] = {}
    for name, factory in _FACTORIES.items():
        if importlib.util.find_spec(name) is None:
            continue
        cache = factory(importlib.import_module(name), len(rows) + 1)
        for position in positions:
            cache[position] = rows[position]
        found[name] = _stacked(cache)
    return found


def _stacked(cache: Any) -> Callable[[list[int]], F32]:
    def read(keys: list[int]) -> F32:
        return np.stack([cache[key] for key in keys])

    return read
