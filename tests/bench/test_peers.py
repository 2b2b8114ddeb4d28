"""Peers that are there read what they were filled with; the others are named."""

import importlib.util

import numpy as np

from predawn.bench import peers


def test_every_peer_is_either_read_or_named_as_absent() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    found = peers.readers(rows, range(4))
    names = {"cachetools", "cachebox", "lru"}
    assert set(found) | set(peers.absent()) == names
    assert all(importlib.util.find_spec(name) is None for name in peers.absent())
    for read in found.values():
        assert np.array_equal(read([2, 0]), rows[[2, 0]])
