"""Tiny traces of pairs that the tests of the replay share."""

from collections.abc import Sequence

import numpy as np

from predawn.server.replay.pair_asks import Asks, asks_of
from predawn.server.traces import Trace
from predawn.server.traces_data import Block, assemble

Shown = Sequence[tuple[int, int, Sequence[int]]]


def lists(shown: Shown) -> Trace:
    """A trace of (t_ms, user, items), in the order given."""
    items = [item for _, _, each in shown for item in each]
    block = Block(
        t_ms=np.array([t for t, _, _ in shown], dtype=np.int64),
        users=np.array([user for _, user, _ in shown], dtype=np.uint64),
        counts=np.array([len(each) for _, _, each in shown], dtype=np.int64),
        item_ids=np.array(items, dtype=np.uint64),
        clicked=None,
        labels={},
        features={},
    )
    return assemble([block])


def asked(shown: Shown, first: int = 0) -> Asks:
    """The asks of `lists(shown)`."""
    return asks_of(lists(shown), first)


def random_asks(seed: int, requests: int = 7, first: int = 0) -> Asks:
    """Few users and items, so that pairs repeat."""
    rng = np.random.default_rng(seed)
    t_ms = np.sort(rng.integers(0, 40, requests)).tolist()
    return asked([(t, int(rng.integers(1, 3)), _few(rng)) for t in t_ms], first)


def _few(rng: np.random.Generator) -> list[int]:
    return [int(item) + 1 for item in rng.permutation(3)[: rng.integers(1, 3)]]
