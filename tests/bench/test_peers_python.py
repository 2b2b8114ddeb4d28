"""Peers that are there read what they were filled with; the others are named with a reason."""

import importlib.util
import shutil

import numpy as np
import pytest

from predawn.bench import peers_python

NAMES = {"cachebox", "cachetools", "lru-dict", "moka-py", "lmdb", "redis-mget"}
ROWS = np.arange(40, dtype=np.float32).reshape(10, 4)
IDS = [2**63 + 7 * i for i in range(10)]


def test_every_peer_is_either_read_or_named_as_absent() -> None:
    with peers_python.opened(IDS, ROWS) as peers:
        assert (set(peers.readers) | set(peers.absent)) - {"cachebox of bytes"} == NAMES
        assert not set(peers.readers) & set(peers.absent)
        for name, read in peers.readers.items():
            assert np.array_equal(read([IDS[7], IDS[0]]), ROWS[[7, 0]]), name
            assert np.array_equal(read([IDS[3]]), ROWS[[3]]), name


def test_absent_peers_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with peers_python.opened(IDS, ROWS) as peers:
        assert peers.readers == {} and set(peers.absent) == NAMES
        assert peers.absent["cachebox"] == "no module cachebox"
        assert peers.absent["redis-mget"] == "no redis-server"
