"""What became of the pairs of one model that were computed, and what its requests were served.

Invariant: every pair that was issued is open, or has ended in exactly one of `OUTCOMES`; `check`
proves it. A pair ends at its first direct read by a request: the reads that follow cost nothing
and count among `asked` alone. All calls are on the event loop's thread; a clock that goes back is
taken for standing still.
"""

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from predawn.csrc import _core, _ledger
from predawn.server.metrics import PAIR_OUTCOMES, PAIR_SOURCES, UNREAD_OUTCOMES, LedgerCounts
from predawn.server.request import I64, U8, U64, Source, UserId
from predawn.server.speculation.contract import Origin

OUTCOMES = PAIR_OUTCOMES
"""Columns of `Counted.outcomes`."""

_USED = OUTCOMES.index("used")
_UNUSED = tuple(map(OUTCOMES.index, UNREAD_OUTCOMES))
_ORIGINS = tuple(origin.name.lower() for origin in Origin)
_SETTLED_AT_ONCE = 1024
_NAMES_LEAST = 1024
_QUANTILES = (0.5, 0.9, 0.99)

PeekPairs: TypeAlias = Callable[[UserId, U64], I64]
"""Ages of pairs of a user in the store, however old, -1: not there. `PairCache.peek`."""


@dataclass(frozen=True, slots=True)
class LedgerLimits:
    """capacity: open pairs, 100 to 150 bytes each; ttl_ms: of the pair model; window_ms: of
    `Ledger.window`; request_ms: longest that a request takes: a pair that landed less than this
    before it was asked for may not have been there when the request read."""

    capacity: int
    ttl_ms: int
    window_ms: int = 600_000
    request_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class Counted:
    """Sums over a time. issued: uint64 [origins]; outcomes: uint64 [origins, OUTCOMES]; asked:
    uint64 [16], by `Source`."""

    issued: U64
    outcomes: U64
    asked: U64

    def since(self, before: "Counted") -> "Counted":
        """What was counted after `before`."""
        return Counted(
            self.issued - before.issued,
            self.outcomes - before.outcomes,
            self.asked - before.asked,
        )

    def used(self, origins: Sequence[Origin] = tuple(Origin)) -> int:
        """Pairs of `origins` that were read."""
        return int(self.outcomes[list(origins), _USED].sum())

    def unused(self, origins: Sequence[Origin] = tuple(Origin)) -> int:
        """Pairs of `origins` that were computed and ended unread."""
        return int(self.outcomes[np.ix_(list(origins), _UNUSED)].sum())

    def waste(self, origins: Sequence[Origin] = tuple(Origin)) -> float:
        """Unused ones among those that ended used or unused; 0 of none."""
        used, unused = self.used(origins), self.unused(origins)
        return unused / (used + unused) if unused else 0.0

    def pairs_asked(self) -> int:
        """Pairs that requests have asked for."""
        return int(self.asked.sum())

    def direct(self) -> int:
        """Of these, read as computed for this user and item."""
        return int(self.asked[Source.DIRECT])


class Ledger:
    """peek: of the model's pairs. seed: of the native index; None: a secret one."""

    def __init__(self, limits: LedgerLimits, peek: PeekPairs, seed: int | None = None) -> None:
        seed = secrets.randbits(64) if seed is None else seed
        self._limits = limits
        self._peek = peek
        self._native = _ledger.Ledger(limits.capacity, limits.ttl_ms, seed)
        self._names: dict[int, str] = {}  # of string users who have open pairs, and some others
        self._lead_ms = _core.Histogram()
        self._age_ms = _core.Histogram()
        self._leads: I64 = np.empty(0, dtype=np.int64)
        self._ages: I64 = np.empty(0, dtype=np.int64)
        self._due_users: U64 = np.empty(_SETTLED_AT_ONCE, dtype=np.uint64)
        self._due_kinds: U8 = np.empty(_SETTLED_AT_ONCE, dtype=np.uint8)
        self._due_items: U64 = np.empty(_SETTLED_AT_ONCE, dtype=np.uint64)
        self._window = _Window(limits.window_ms, self.counted())

    @property
    def open(self) -> int:
        """Pairs that were issued and have not ended."""
        return self._native.open

    @property
    def unread(self) -> int:
        """Of the open ones, those that have landed: what speculation holds of the store."""
        return int(self._native.unread().sum())

    @property
    def unread_ahead(self) -> int:
        """Of these, what no request had missed when it was computed."""
        unread = self._native.unread()
        return int(unread.sum() - unread[Origin.MISSED])

    def issued(self, user: UserId, items: U64, origins: U8, now_ms: int) -> None:
        """Pairs of `user` with `items` uint64 [n], each once, were given to the engine; `origins`
        uint8 [n], `Origin`. Twice as many whose ttl has passed are settled, so that the ledger
        keeps up whatever the load."""
        self.settle(now_ms, 2 * len(items))
        key, kind = self._key(user)
        if isinstance(user, str):
            self._names[key] = user
            if len(self._names) > 2 * self._native.open_users + _NAMES_LEAST:
                is_open = self._native.is_open
                self._names = {k: name for k, name in self._names.items() if is_open(k, kind)}
                self._names[key] = user
        self._native.issue(key, kind, items, origins, now_ms)

    def landed(self, user: UserId, items: U64, now_ms: int) -> int:
        """They can be read; how many of them were open. Those of invalidated users are not."""
        return self._native.land(*self._key(user), items, now_ms)

    def failed(self, user: UserId, items: U64, now_ms: int) -> int:
        """They were not computed, or are not fit to be kept; how many of them were open."""
        return self._native.fail(*self._key(user), items, now_ms)

    def asked(self, user: UserId, items: U64, sources: U8, now_ms: int) -> int:
        """A request of `user` has read `items`, each from its `Source` uint8 [n]; of how many open
        pairs that was the first use."""
        if len(items) > len(self._leads):
            self._leads = np.empty(2 * len(items), dtype=np.int64)
            self._ages = np.empty(2 * len(items), dtype=np.int64)
        read_ms = now_ms - self._limits.request_ms
        key, kind = self._key(user)
        used = self._native.ask(key, kind, items, sources, read_ms, now_ms, self._leads, self._ages)
        if used:
            self._lead_ms.record_many(self._leads[:used])
            self._age_ms.record_many(self._ages[:used])
        self._window.advance(now_ms, self.counted)
        return used

    def invalidated(self, user: UserId) -> int:
        """All pairs of `user` were taken back; of how many open ones that was the end."""
        return self._native.invalidate(*self._key(user))

    def settle(self, now_ms: int, limit: int = _SETTLED_AT_ONCE) -> int:
        """Ends pairs whose ttl has passed unread, `limit` and 1,024 at most; how many. To be called
        now and then, for the time when nothing is issued."""
        users, kinds = self._due_users[:limit], self._due_kinds[:limit]
        items = self._due_items[:limit]
        count = self._native.due(now_ms, users, kinds, items)
        if count:
            of = np.flatnonzero(np.diff(users[:count]) | np.diff(kinds[:count])) + 1
            there = [
                self._are_there(int(users[begin]), int(kinds[begin]), items[begin:end])
                for begin, end in zip([0, *of.tolist()], [*of.tolist(), count], strict=True)
            ]
            self._native.settle(np.concatenate(there))
        self._window.advance(now_ms, self.counted)
        return count

    def counted(self) -> Counted:
        """All sums since the beginning."""
        native = self._native
        return Counted(native.issued(), native.outcomes(), native.asked())

    def window(self) -> Counted:
        """The sums of the last `window_ms`, within a tenth of it; less where there was no more."""
        return self.counted().since(self._window.before())

    def counts(self) -> LedgerCounts:
        """For `Metrics.speculation`."""
        outcomes, issued = self._native.outcomes(), self._native.issued()
        ended = outcomes.sum(axis=1)
        return LedgerCounts(
            outcomes={
                name: dict(zip(OUTCOMES, outcomes[origin].tolist(), strict=True))
                for origin, name in enumerate(_ORIGINS)
            },
            open=dict(zip(_ORIGINS, (issued - ended).tolist(), strict=True)),
            unread=self.unread,
            lead_ms=self._lead_ms,
            age_at_use_ms=self._age_ms,
        )

    def report(self) -> dict[str, Any]:
        """JSON-ready: all sums since the beginning, and the waste of the window."""
        all_of, counts = self.counted(), self.counts()
        asked, default = all_of.pairs_asked(), int(all_of.asked[Source.DEFAULT])
        return {
            "asked": asked,
            "sources": {each.label: int(all_of.asked[each]) for each in PAIR_SOURCES},
            "coverage_exact": all_of.direct() / asked if asked else 0.0,
            "coverage_with_fills": (asked - default) / asked if asked else 0.0,
            "issued": dict(zip(_ORIGINS, all_of.issued.tolist(), strict=True)),
            "outcomes": counts.outcomes,
            "open": self.open,
            "unread": counts.unread,
            "late": self._native.late,
            "waste": all_of.waste(),
            "waste_lately": self.window().waste(),
            "lead_ms": _quantiles(self._lead_ms),
            "age_at_use_ms": _quantiles(self._age_ms),
        }

    def check(self) -> list[str]:
        """The violated invariants (empty: sound). Looks at every open pair."""
        return self._native.check()

    def _are_there(self, key: int, kind: int, items: U64) -> U8:
        """A string user whose name is not known any more has no open pair, so this one has."""
        user = self._names[key] if kind == _core.STRING else key
        return (self._peek(user, items) >= 0).view(np.uint8)

    def _key(self, user: UserId) -> tuple[int, int]:
        if isinstance(user, str):
            return _core.stable_hash(user.encode()), _core.STRING
        return user, _core.INTEGER


class _Window:
    """Sums as they were, a tenth of the window apart."""

    def __init__(self, span_ms: int, now: Counted) -> None:
        self._step_ms = max(1, span_ms // 10)
        self._next_ms: int | None = None
        self._marks: deque[Counted] = deque([now], maxlen=11)

    def advance(self, now_ms: int, counted: Callable[[], Counted]) -> None:
        """Marks the sums, once for every step that has passed."""
        if self._next_ms is None:
            self._next_ms = now_ms + self._step_ms
        steps = (now_ms - self._next_ms) // self._step_ms + 1
        if steps > 0:
            now = counted()
            self._marks.extend([now] * min(steps, 11))
            self._next_ms += steps * self._step_ms

    def before(self) -> Counted:
        """As they were when the window began."""
        return self._marks[0]


def _quantiles(histogram: _core.Histogram) -> dict[str, float]:
    """0 of nothing, since JSON has no NaN."""
    empty = histogram.count == 0
    return {f"p{q * 100:g}": 0.0 if empty else histogram.quantile(q) for q in _QUANTILES}
