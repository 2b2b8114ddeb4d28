"""The pairs that a trace asks for, numbered: what plain baselines and oracles work on.

Invariant: rows are in the order of the trace, requests of equal time in their order; a pair is
`user * items + item` of the numbers given here.
"""

from dataclasses import dataclass

import numpy as np

from predawn.server.request import I64
from predawn.server.traces import Trace


@dataclass(frozen=True, slots=True)
class Asks:
    """t_ms: int64 [n requests]; user: int64 [n]; offsets: int64 [n + 1]; request: int64 [rows];
    item: int64 [rows]; items: how many there are; first: the first request that is counted."""

    t_ms: I64
    user: I64
    offsets: I64
    request: I64
    item: I64
    items: int
    first: int

    @property
    def pair(self) -> I64:
        """Number of every row's pair. int64 [rows]."""
        return self.user[self.request] * self.items + self.item

    @property
    def row_t_ms(self) -> I64:
        """When every row was asked for. int64 [rows]."""
        return self.t_ms[self.request]

    @property
    def counted(self) -> slice:
        """The rows that figures are of."""
        return slice(int(self.offsets[self.first]), None)

    @property
    def asked(self) -> int:
        """How many rows are counted."""
        return len(self.item) - int(self.offsets[self.first])


def asks_of(trace: Trace, first: int = 0) -> Asks:
    """Numbers the users and items of `trace`; figures are to count from request `first` on."""
    distinct, item = np.unique(trace.items, return_inverse=True)
    return Asks(
        t_ms=trace.t_ms,
        user=trace.user_indices()[1],
        offsets=trace.offsets,
        request=np.repeat(np.arange(len(trace), dtype=np.int64), np.diff(trace.offsets)),
        item=item.astype(np.int64),
        items=len(distinct),
        first=first,
    )


def last_shown(asks: Asks) -> I64:
    """How many of the user's own requests before each row's one had the same pair for the last
    time: 1 is the list before, -1 never. int64 [rows]."""
    order = np.argsort(asks.pair, kind="stable")
    number = position(asks)[asks.request]
    pair, number = asks.pair[order], number[order]
    back = np.full(len(order), -1, dtype=np.int64)
    again = np.flatnonzero(np.diff(pair) == 0) + 1
    back[order[again]] = number[again] - number[again - 1]
    return back


def position(asks: Asks) -> I64:
    """How many requests the user of each request has made before it. int64 [n]."""
    order = np.argsort(asks.user, kind="stable")
    user = asks.user[order]
    begins = np.flatnonzero(np.diff(user, prepend=-1))
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    return found


def own_history(asks: Asks) -> dict[str, float]:
    """Shares of the counted pairs that were on the user's own last list, last 3, last 10 or on any
    before: what replaying a history could cover were nothing ever too old."""
    back = last_shown(asks)[asks.counted]
    reach = {"last list": 1, "last 3": 3, "last 10": 10}
    found = {name: float(((back > 0) & (back <= lists)).mean()) for name, lists in reach.items()}
    return found | {"any": float((back > 0).mean())}
