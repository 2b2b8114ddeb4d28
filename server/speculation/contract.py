"""What the parts of speculation say to each other: plain data and protocols.

Invariant: nothing here computes. A pair is named by its user as requests name him and by the
item's 64-bit hash, as everywhere.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

import numpy as np

from predawn.server.request import F32, U8, U64, UserId


class Origin(IntEnum):
    """Why a pair is thought worth computing."""

    MISSED = 0  # a request has just asked for it in vain
    SHOWN = 1  # shown to this user lately: it will expire, has expired or was never computed
    POPULAR = 2  # asked for by many others now
    NEAREST = 3  # near to the user by the dot product of light vectors


_NO_ORIGINS: U8 = np.zeros(0, dtype=np.uint8)
NOTHING: U64 = np.zeros(0, dtype=np.uint64)
"""No items."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Pairs of one user, best first. items: uint64 [n], each once; chances: float32 [n], the
    probability that the pair is asked for within its ttl; origins: uint8 [n], `Origin`."""

    user: UserId
    items: U64
    chances: F32
    origins: U8 = field(default_factory=lambda: _NO_ORIGINS)


class PredictsPairs(Protocol):
    """P(a pair is asked for within the model's ttl), for one pair model. All calls are on the event
    loop's thread, in order of time; a clock that goes back is taken for standing still."""

    def asked(self, user: UserId, items: U64, scores: F32, known: U8, now_ms: int) -> None:
        """A request of `user` has ranked `items` uint64 [n] with `scores` float32 [n]; `known`
        uint8 [n] is 1 where the exact embedding was there. Called once a request, after its
        reply; outcomes of earlier proposals are learnt from it."""
        ...

    def propose(
        self, user: UserId, now_ms: int, limit: int, least: float = 0.0, missed: U64 = NOTHING
    ) -> Proposal:
        """First the `missed` uint64 [m], each once, as they come, -1 the chance of those of which
        nothing is known; then at most `limit` others, most probable first; those below `least`
        may be left out, and are no candidates then. What is in the store already, or being
        computed, is the caller's business. A look, not a promise: it may be called at any time and
        as often as one likes."""
        ...

    def report(self) -> dict[str, Any]:
        """JSON-ready: calibration (reliability table), brier, expected calibration error,
        precision and recall by threshold, sizes of what is remembered."""
        ...
