"""The vectors of the users who asked last, as many as are worth looking at together.

Invariant: all have one length; the oldest makes room. Users count by their requests, as what is
made of the sample is used request by request.
"""

import numpy as np

from predawn.server.request import F32

__all__ = ["UserSample"]


class UserSample:
    """At most `limit` vectors: a ring, made at the first one. `seen`: how many there were."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: F32 = np.zeros((0, 0), dtype=np.float32)
        self.seen = 0

    @property
    def user_dim(self) -> int:
        """Length of the vectors, 0 while there is none."""
        return int(self._rows.shape[1])

    def add(self, vector: F32) -> None:
        """`vector`: float32 [user_dim], finite."""
        if not self.user_dim:
            self._rows = np.zeros((self._limit, len(vector)), dtype=np.float32)
        self._rows[self.seen % self._limit] = vector
        self.seen += 1

    def rows(self) -> F32:
        """A copy [n, user_dim], for another thread."""
        return self._rows[: min(self.seen, self._limit)].copy()

    def forget(self) -> None:
        """Starts anew, with vectors of any length."""
        self._rows = np.zeros((0, 0), dtype=np.float32)
        self.seen = 0
