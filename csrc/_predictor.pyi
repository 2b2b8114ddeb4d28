"""Which user-item pairs are asked for next (csrc/predictor.hpp). One thread; bounded memory, all of
it taken at creation; a clock that goes back stands still.

Arrays are numpy arrays or other CPU arrays in C order; a ValueError names a wrong one.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]

THRESHOLDS: tuple[float, ...]
"""The rows of `Predictor.above`."""
MOST_LISTS: int

class Predictor:
    """P(a pair is asked for within `ttl_ms`). users, items: how many are remembered (rounded up to
    powers of two); lists: of a user, his last, up to `MOST_LISTS`; popular: items that are
    proposed to everybody; examples: pairs that wait for their outcome, for learning."""

    def __init__(
        self,
        *,
        users: int,
        items: int,
        lists: int,
        popular: int,
        ttl_ms: int,
        seed: int,
        examples: int = 32_768,
    ) -> None: ...
    def asked(
        self, user: int, is_text: bool, items: U64, scores: F32, known: U8, now_ms: int
    ) -> None:
        """A request of a user (an integer, or the hash of a text) ranked items [n] with scores [n];
        known [n]: whether the exact embedding was there."""

    def propose(
        self,
        user: int,
        is_text: bool,
        now_ms: int,
        least: float,
        items: U64,
        chances: F32,
        origins: U8,
    ) -> int:
        """Writes the user's pairs of chance `least` or above, most probable first, as many as the
        arrays [n] hold; returns how many. origins: `Origin` of server/speculation/contract.py."""

    def propose_beside(
        self,
        user: int,
        is_text: bool,
        now_ms: int,
        least: float,
        known: float,
        missed: U64,
        items: U64,
        chances: F32,
        origins: U8,
    ) -> int:
        """The same after `missed` [m], each once, whatever their chances: -1 where below `known`.
        Returns how many in all."""

    def reliability(self) -> F64:
        """[20, 4]: by chance as said, in twentieths: examples, sum of chances, of outcomes, of
        squared errors; weighted by how rarely they were taken; of the last one to two days."""

    def above(self) -> F64:
        """The same of examples at or above each of `THRESHOLDS`."""

    def activity(self) -> tuple[float, float, float]:
        """Fresh candidates expected of the user proposed last; fading sums of what was expected
        and of what came."""

    def sizes(self) -> dict[str, int]:
        """users, items, examples: remembered now; examples_refused: for which there was no room;
        outcomes: examples in `reliability`."""
