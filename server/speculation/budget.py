"""What may be spent on pairs: token buckets, filled by what requests ask for and by the time.

Invariant: over any stretch, the pairs computed are at most `pairs_per_asked` times the pairs asked
for plus `burst`, and at most `pairs_per_second` times its length plus one second's worth; since the
first bucket starts empty, the first bound holds without the burst from the start on. A pair may
cost more than a token, never less. Missed pairs pay as all others do. No clock: instants are passed
in, and one that goes back is taken for standing still.
"""

import math
from dataclasses import dataclass

from predawn.server.speculation.limits import PairLimits

TARGET_BATCHES = 4
BURST_BATCHES = 16


@dataclass(slots=True)
class TokenBucket:
    """Holds at most `burst` tokens."""

    burst: float
    tokens: float = 0.0

    def fill(self, tokens: float) -> None:
        """Adds; what does not fit is lost."""
        self.tokens = min(self.burst, self.tokens + tokens)

    def spend(self, tokens: float) -> None:
        """Takes what `tokens` said is there."""
        self.tokens -= tokens


class PairBudget:
    """The budget of one pair model."""

    def __init__(self, limits: PairLimits, now_ns: int) -> None:
        self._per_asked = limits.pairs_per_asked
        self._per_second = limits.pairs_per_second
        self._ahead_limit = math.floor(limits.entries * limits.capacity)
        self.target = float(TARGET_BATCHES * limits.batch_pairs)
        self._asked = TokenBucket(float(BURST_BATCHES * limits.batch_pairs))
        self._second = TokenBucket(max(1.0, self._per_second))
        self._seen_ns = now_ns
        self.asked_pairs = 0
        self.spent_pairs = 0

    @property
    def burst(self) -> float:
        """Tokens of asked pairs that can be saved up."""
        return self._asked.burst

    @property
    def fullness(self) -> float:
        """Saved tokens over what is meant to be saved: 1 is right, 0 is out of money."""
        return self._asked.tokens / self.target

    def asked(self, pairs: int) -> None:
        """A request has asked for so many pairs."""
        self.asked_pairs += pairs
        self._asked.fill(self._per_asked * pairs)

    def room(self, now_ns: int) -> float:
        """Tokens that may be spent now."""
        if not self._per_second:
            return self._asked.tokens
        self._grow(now_ns)
        return min(self._asked.tokens, self._second.tokens)

    def room_ahead(self, unread: int) -> int:
        """Pairs that may be added to the `unread` ones that were computed before being asked."""
        return max(0, self._ahead_limit - unread)

    def spend(self, pairs: int, tokens: float) -> None:
        """`pairs` go to the engine and cost `tokens`, whatever becomes of them."""
        self.spent_pairs += pairs
        self._asked.spend(tokens)
        if self._per_second:
            self._second.spend(tokens)

    def due_ns(self, now_ns: int) -> int | None:
        """When there will be a token again though nobody asks; None: never, or there is one."""
        if not self._per_second or self._asked.tokens < 1:
            return None
        self._grow(now_ns)
        lacking = 1 - self._second.tokens
        return now_ns + math.ceil(1e9 * lacking / self._per_second) if lacking > 0 else None

    def _grow(self, now_ns: int) -> None:
        passed_ns = max(0, now_ns - self._seen_ns)
        self._second.fill(self._per_second * passed_ns / 1e9)
        self._seen_ns = max(self._seen_ns, now_ns)
