"""What is known of every item's embeddings over all users. One thread at a time.

Buffers are the caller's. Arguments are numpy arrays or other CPU arrays in C order; a ValueError
names a wrong one.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]

class ItemAggregates:
    """A regression of embeddings [dim] on features of their users, per item, of at least `items`
    items; those longest untouched make room (csrc/item_aggregates.hpp).

    half_life_ms: age at which an embedding counts half; noise: variance of an embedding around the
    regression over that of a coefficient before anything is seen (the ridge), 0.001 to 1e6.
    4 * features * (dim + features) + 32 bytes an item, all at creation.
    """

    def __init__(
        self, items: int, features: int, dim: int, half_life_ms: float, noise: float = 1.0
    ) -> None: ...
    @property
    def capacity(self) -> int: ...
    @property
    def used(self) -> int: ...
    @property
    def evictions(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def add(self, items: U64, features: F32, rows: F32, now_ms: int) -> None:
        """Learns embeddings `rows` [n, dim] of `items` [n] with users of `features` [n, F], in this
        order. Rows with values that are not finite are left out."""

    def read(
        self,
        items: U64,
        wanted: U8,
        features: F32,
        now_ms: int,
        max_age_ms: int,
        least_weight: float,
        rows: F32,
        weights: F32,
        found: U8,
    ) -> int:
        """What the user of `features` [F] would have with the `items` [n] that are `wanted`: their
        `rows` [n, dim] are written, `found` 1, where the item was seen at most `max_age_ms` ago and
        weighs enough; other rows stay. weights [n]: embeddings seen of each wanted item, counted by
        age. Returns how many were found."""

    def forget(self) -> None:
        """Forgets all items."""
