"""Which pages hold whose encoded history: a bounded pool, least recently used users out first.

Invariant: a page belongs to one `Kept` or is free; the first `length` tokens of a `Kept` are
encoded in its pages, in order, and are those of its `history`. What was encoded is compared whole
with what is asked for, event by event: the common beginning is used, so that new events extend it,
an unchanged history costs nothing, and whatever the user's hash, a foreign history is never read.
Pinned users keep their pages. No tensors here: one pool of page numbers serves all layers.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from predawn.kernels.hstu_prefix_attn import PAGE
from predawn.server.request import U64

_NOTHING: U64 = np.zeros((0, 3), dtype=np.uint64)


class PoolFull(RuntimeError):
    """Every page is pinned: the pool is too small for what goes on at once."""


@dataclass(slots=True, eq=False)
class Kept:
    """A user's encoded history. wanted: tokens of `history` that the holder reads; length: how many
    tokens the pages hold so far; pins: who reads or writes it now; writing: it is being extended;
    gone: no longer to be found, its pages are freed with the last pin."""

    user: int
    history: U64 = field(default_factory=lambda: _NOTHING)
    length: int = 0
    pages: list[int] = field(default_factory=list[int])
    pins: int = 0
    writing: bool = False
    gone: bool = False

    def slots(self, first: int, stop: int) -> slice | list[int]:
        """Where tokens first .. stop - 1 lie, page * PAGE + offset: a slice if side by side."""
        if first >= stop:
            return slice(0, 0)
        pages = self.pages[first // PAGE : (stop - 1) // PAGE + 1]
        begin = pages[0] * PAGE + first % PAGE
        if pages[-1] - pages[0] == len(pages) - 1 and pages == sorted(pages):
            return slice(begin, begin + stop - first)
        return [self.pages[at // PAGE] * PAGE + at % PAGE for at in range(first, stop)]


def pages_of(tokens: int) -> int:
    """Pages that so many tokens take."""
    return -(-tokens // PAGE)


class PagePool:
    """Not for several threads. Between two slices of one job another may run: pins keep them
    apart, and who needs to change what another reads gets pages of its own."""

    def __init__(self, pages: int, longest: int) -> None:
        """longest: pages of the longest history; ValueError when not four of them fit."""
        if pages < 4 * longest:
            raise ValueError(f"{pages} pages do not hold four histories of {longest} pages")
        self.longest = longest
        self.pages = pages
        self._free = np.ones(pages, dtype=np.bool_)
        self._users: OrderedDict[int, Kept] = OrderedDict()
        self._encoded = self._extended = self._evicted = self._reused = 0

    def acquire(self, user: int, history: U64) -> Kept:
        """What is kept of the user, pinned, with pages for the whole `history`.

        Its `length` says how many of the history's tokens are there (possibly more than asked for,
        which do not count); the rest is for the caller to write and to `commit`. PoolFull when
        others pin too much. Every call needs a `release`.
        """
        kept = self._found(user, history)
        kept.pins += 1
        try:
            self._grow(kept, pages_of(len(history)) - len(kept.pages))
        except PoolFull:
            self.release(kept)
            raise
        self._reused += min(kept.length, len(history))
        if kept.length < len(history):
            kept.history = history.copy()
            kept.writing = True
        return kept

    def commit(self, kept: Kept, length: int) -> None:
        """The first `length` tokens are there now."""
        new = length - kept.length
        self._extended += new if kept.length else 0
        self._encoded += 0 if kept.length else new
        kept.length = length
        kept.writing = length < len(kept.history)

    def release(self, kept: Kept) -> None:
        """The caller reads and writes it no more."""
        kept.pins -= 1
        if kept.writing and not kept.pins:
            kept.writing = False
        if kept.gone and not kept.pins:
            self._give_back(kept, 0)

    def counters(self) -> dict[str, int]:
        """Pages and users now; tokens encoded anew, appended and found kept, users evicted."""
        free = int(self._free.sum())
        return {
            "pages": self.pages,
            "pages_free": free,
            "pages_used": self.pages - free,
            "users": len(self._users),
            "tokens_encoded": self._encoded,
            "tokens_extended": self._extended,
            "tokens_reused": self._reused,
            "users_evicted": self._evicted,
        }

    def _found(self, user: int, history: U64) -> Kept:
        """The user's entry, holding nothing but a beginning of `history`; a new one if need be."""
        kept = self._users.get(user)
        if kept is not None:
            same = _common(kept.history[: kept.length], history)
            fits = same in (kept.length, len(history)) or not kept.pins
            if fits and not kept.writing:
                self._users.move_to_end(user)
                if same < min(kept.length, len(history)):
                    kept.length = same
                    self._give_back(kept, pages_of(same))
                return kept
            self._forget(kept)
        if not len(history):
            return Kept(user, gone=True)
        fresh = self._users[user] = Kept(user)
        return fresh

    def _forget(self, kept: Kept) -> None:
        del self._users[kept.user]
        kept.gone = True
        if not kept.pins:
            self._give_back(kept, 0)

    def _give_back(self, kept: Kept, keep: int) -> None:
        self._free[kept.pages[keep:]] = True
        del kept.pages[keep:]

    def _grow(self, kept: Kept, need: int) -> None:
        if need <= 0:
            return
        for old in self._evictable():
            if self._free.sum() >= need:
                break
            self._forget(old)
            self._evicted += 1
        found = self._run(kept.pages[-1] + 1 if kept.pages else -1, need)
        self._free[found] = False
        kept.pages += found

    def _evictable(self) -> Iterator[Kept]:
        for kept in list(self._users.values()):
            if not kept.pins:
                yield kept

    def _run(self, after: int, need: int) -> list[int]:
        """Free pages, side by side where possible: reading those needs no copy."""
        if 0 <= after <= self.pages - need and self._free[after : after + need].all():
            return list(range(after, after + need))
        free = np.flatnonzero(self._free)
        if len(free) < need:
            raise PoolFull(f"{need} pages needed, {len(free)} of {self.pages} are not pinned")
        starts = free[: len(free) - need + 1]
        runs = starts[free[need - 1 :] - starts == need - 1]
        if not len(runs):
            scattered: list[int] = free[:need].tolist()
            return scattered
        roomy = runs[runs % self.longest == 0]
        first = int(roomy[0] if len(roomy) else runs[0])
        return list(range(first, first + need))


def _common(one: U64, two: U64) -> int:
    """Rows at the beginning that are equal."""
    rows = min(len(one), len(two))
    differ = (one[:rows] != two[:rows]).any(axis=1)
    return int(differ.argmax()) if differ.any() else rows
