"""What accounting for pairs costs, in process: a pair's whole life in the ledger, and a request
whose user has nothing open.

The limit is the native ledger alone, arrays at hand; the peer is what a program without it would
do: a dictionary of instants by (user, item).
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from predawn.bench.harness import Case, Subject
from predawn.csrc import _ledger
from predawn.server.request import I64, U8, U64, Source, UserId
from predawn.server.speculation.contract import Origin
from predawn.server.speculation.ledger import Ledger, LedgerLimits

TTL_MS = 1_000
_CAPACITY = 100_000


def ledger_cases(users: int, items: int) -> list[Case]:
    """Lives of `items` pairs of each of `users`: a half is read, the rest is settled when its ttl
    has passed."""
    return [_lives(users, items), _nobody(users, items)]


def _lives(users: int, items: int) -> Case:
    listed, sources = _items(items), np.zeros((items + 1) // 2, dtype=np.uint8)
    return Case(
        f"account for {items} pairs of a user: issued, landed, half of them read",
        Subject("predawn", _own(users, listed, sources), items),
        peers=(Subject("dictionary", _dictionary(users, listed), items),),
        limit=Subject("native", _native(users, listed, sources), items),
        per="pair",
    )


def _nobody(users: int, items: int) -> Case:
    """Most requests: nothing of this user is open."""
    ledger, listed = _empty(), _items(items)
    sources = np.full(items, Source.DEFAULT, dtype=np.uint8)
    now_ms = itertools.count().__next__
    asked = Subject("predawn", lambda: ledger.asked(users + 1, listed, sources, now_ms()))
    return Case(f"account for a request of {items} pairs, none of them open", asked)


def _own(users: int, listed: U64, sources: U8) -> Callable[[], int]:
    ledger, origins = _empty(), np.full(len(listed), Origin.SHOWN, dtype=np.uint8)
    read, turns = listed[: len(sources)].copy(), _turns(users)

    def live() -> int:
        user, now_ms = next(turns)
        ledger.issued(user, listed, origins, now_ms)
        ledger.landed(user, listed, now_ms)
        return ledger.asked(user, read, sources, now_ms)

    return live


def _native(users: int, listed: U64, sources: U8) -> Callable[[], int]:
    ledger = _ledger.Ledger(_CAPACITY, TTL_MS, 0)
    origins = np.full(len(listed), Origin.SHOWN, dtype=np.uint8)
    read, turns = listed[: len(sources)].copy(), _turns(users)
    lead_ms, age_ms = np.empty(len(listed), np.int64), np.empty(len(listed), np.int64)
    most = 2 * len(listed)
    due = np.empty(most, np.uint64), np.empty(most, np.uint8), np.empty(most, np.uint64)
    there = np.ones(most, dtype=np.uint8)

    def live() -> int:
        user, now_ms = next(turns)
        ledger.settle(there[: ledger.due(now_ms, *due)])
        ledger.issue(user, 0, listed, origins, now_ms)
        ledger.land(user, 0, listed, now_ms)
        return ledger.ask(user, 0, read, sources, now_ms, now_ms, lead_ms, age_ms)

    return live


def _dictionary(users: int, listed: U64) -> Callable[[], int]:
    """Without settling, invalidations, or counts by origin."""
    issued: dict[tuple[int, int], int] = {}
    landed: dict[tuple[int, int], int] = {}
    leads: list[int] = []
    items, turns = listed.tolist(), _turns(users)
    half = (len(items) + 1) // 2

    def live() -> int:
        user, now_ms = next(turns)
        for item in items:
            issued[user, item] = now_ms
        for item in items:
            landed[user, item] = now_ms
        leads[:] = [
            now_ms - issued.pop((user, item))
            for item in items[:half]
            if landed.pop((user, item), None) is not None
        ]
        return half

    return live


def _turns(users: int) -> Iterator[tuple[int, int]]:
    """User and instant; a user's turn comes again when his ttl has passed."""
    step_ms = TTL_MS // users + 2
    return ((1 + turn % users, turn * step_ms) for turn in itertools.count())


def _empty() -> Ledger:
    def peek(user: UserId, items: U64) -> I64:
        return np.zeros(len(items), dtype=np.int64)

    return Ledger(LedgerLimits(_CAPACITY, TTL_MS), peek, seed=0)


def _items(n: int) -> U64:
    return np.arange(n, dtype=np.uint64) * np.uint64(2**40 + 7)
