"""Compares what computing pairs costs with what comes of it, and turns it down where it does not
pay: per origin, since the ones that users were shown may pay while popular ones do not.

Invariant: `scale` is between `FLOOR` and 1: probes go on, so that it recovers when they pay again.
A pair pays when its chance of being asked for in time is at least `break_even`: below it, more than
1 / `break_even` pairs are computed for one exact hit.

Outcomes are late: whether a pair is used is known for certain at the end of its ttl. So a pair
counts as tried little by little: exponentially, with a mean of `_TRIED_AFTER` of the ttl, which is
later than most uses. The rate of use is the uses over the tried, of about the last `_WINDOW` tried.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predawn.server.speculation.contract import Origin

FLOOR = 1 / 32
_TRIED_AFTER = 1 / 6
_WINDOW = 2_000.0
_PRIOR_USES = 2.0  # at twice the break-even
_DOWN, _UP = 0.5, 1.5
_EVERY = 1 / 1_000  # of the ttl
_SHORTEST_MS, _LONGEST_MS = 100, 10_000

_NAMES = {
    Origin.MISSED: "that requests missed",
    Origin.SHOWN: "shown lately",
    Origin.POPULAR: "of popular items",
    Origin.NEAREST: "of items near to the user",
}


@dataclass(slots=True)
class _Account:
    """Of one origin. untried: computed pairs that do not count yet."""

    untried: float = 0.0
    tried: float = 0.0
    used: float = 0.0
    scale: float = 1.0


class Throttle:
    """ttl_ms, break_even: of the pair model."""

    def __init__(self, ttl_ms: int, break_even: float, now_ms: int) -> None:
        self._tried_after_ms = max(1.0, ttl_ms * _TRIED_AFTER)
        self._every_ms = min(_LONGEST_MS, max(_SHORTEST_MS, round(ttl_ms * _EVERY)))
        self._break_even = break_even
        self._accounts = [_Account() for _ in Origin]
        self._seen_ms = now_ms

    def computed(self, origins: Sequence[int]) -> None:
        """Pairs by origin that have been computed."""
        for account, pairs in zip(self._accounts, origins, strict=True):
            account.untried += pairs

    def used(self, origins: Sequence[int]) -> None:
        """Computed pairs by origin that were asked for in time, each the first time."""
        for account, pairs in zip(self._accounts, origins, strict=True):
            account.used += pairs

    def settle(self, now_ms: int) -> bool:
        """Once a period: moves the scales. Returns whether one has left 1 or come back to it. A
        clock that goes back is taken for standing still."""
        passed_ms = now_ms - self._seen_ms
        if passed_ms < 0:
            self._seen_ms = now_ms
        if passed_ms < self._every_ms:
            return False
        self._seen_ms = now_ms
        part = -math.expm1(-passed_ms / self._tried_after_ms)
        before = [account.scale < 1 for account in self._accounts]
        for account in self._accounts:
            self._move(account, part)
        return before != [account.scale < 1 for account in self._accounts]

    def chance(self, origin: int) -> float:
        """The rate of use of an origin's pairs, with a prior."""
        account = self._accounts[origin]
        prior = self._prior
        return min(1.0, (account.used + _PRIOR_USES) / (account.tried + prior)) if prior else 1.0

    @property
    def costs(self) -> NDArray[np.float64]:
        """float64 [origins]: tokens that a pair costs."""
        return np.array([1 / account.scale for account in self._accounts])

    @property
    def caps(self) -> NDArray[np.float32]:
        """float32 [origins]: what a pair's chance may be said to be: that which came true, where
        pairs do not pay."""
        accounts = enumerate(self._accounts)
        caps = [self.chance(origin) if each.scale < 1 else 1.0 for origin, each in accounts]
        return np.array(caps, dtype=np.float32)

    @property
    def scales(self) -> list[float]:
        """By origin, the share of what the budget allows that is spent: 1 where it pays."""
        return [account.scale for account in self._accounts]

    def reason(self) -> str:
        """Why less is computed than the budget allows; "" when nothing is throttled."""
        return "; ".join(
            f"{self.chance(origin):.1%} of the pairs {_NAMES[origin]} are asked for in time, below "
            f"break-even ({self._break_even:.1%}): only a few are computed, to learn from"
            for origin, account in zip(Origin, self._accounts, strict=True)
            if account.scale < 1
        )

    @property
    def _prior(self) -> float:
        """Pairs tried that the prior stands for; 0: there is no break-even."""
        return _PRIOR_USES / min(1.0, 2 * self._break_even) if self._break_even else 0.0

    def _move(self, account: _Account, part: float) -> None:
        matured = account.untried * part
        account.untried -= matured
        account.tried += matured
        if account.tried > _WINDOW:
            account.used *= _WINDOW / account.tried
            account.tried = _WINDOW
        prior = self._prior
        if not prior:
            return
        if (account.used + _PRIOR_USES) / (account.tried + prior) < self._break_even:
            account.scale = max(FLOOR, _DOWN * account.scale)
        else:
            account.scale = min(1.0, _UP * account.scale)
