"""The background's share of engine time, as an account of tokens (nanoseconds of the engine).

Invariant: over any stretch of time t, background work takes at most share * t, plus the credit
saved up (`burst_ns`), plus the one batch that began on the last of the credit. Work of lower
priority has an account below, which pays for both: it gets what is left, and what it takes is never
missing above.
"""

import math

BURST_NS = 100_000_000


class ShareAccount:
    """share: 0 < share <= 1; credit grows with the time and is spent by measured engine time."""

    def __init__(self, share: float, now_ns: int, burst_ns: int = BURST_NS) -> None:
        self._share = share
        self._burst_ns = burst_ns
        self._credit_ns = float(burst_ns)
        self._seen_ns = now_ns
        self._lower: list[ShareAccount] = []

    def below(self, now_ns: int) -> "ShareAccount":
        """An account of the same share that is also charged for what is spent here."""
        account = ShareAccount(self._share, now_ns, self._burst_ns)
        self._lower.append(account)
        return account

    def may_start(self, now_ns: int) -> bool:
        """True while there is credit: a background batch may begin."""
        self._grow(now_ns)
        return self._credit_ns > 0

    def allowed_ns(self, now_ns: int) -> int:
        """The first instant from `now_ns` on at which a batch may begin, if none is charged."""
        if self.may_start(now_ns):
            return now_ns
        return now_ns + math.ceil((1 - self._credit_ns) / self._share)

    def spend(self, engine_ns: int) -> None:
        """Charges a finished batch; the account may go below zero."""
        self._credit_ns -= engine_ns
        for account in self._lower:
            account.spend(engine_ns)

    def _grow(self, now_ns: int) -> None:
        grown = self._credit_ns + self._share * (now_ns - self._seen_ns)
        self._credit_ns = min(grown, float(self._burst_ns))
        self._seen_ns = now_ns
        for account in self._lower:  # what is at its limit now must not grow after the next charge
            account._grow(now_ns)
