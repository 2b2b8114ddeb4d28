"""What became of every pair that was computed ahead (csrc/ledger.hpp).

A user is an id with `kind` 0, or the stable hash of a string with `kind` 1. `items` uint64 [n] are
pairs of that user; a ValueError names a wrong argument and nothing is changed. One thread.
"""

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

class Ledger:
    """An issued pair is open until exactly one of: used, wasted, evicted, failed, void, replaced,
    forgotten (the columns of `outcomes`, in this order). At most `capacity` are open; one more
    forgets the oldest. `now_ms` is taken for the highest so far."""

    def __init__(self, capacity: int, ttl_ms: int, seed: int) -> None: ...
    def issue(self, user: int, kind: int, items: U64, origins: U8, now_ms: int) -> None:
        """origins: uint8 [n], 0 to 3. One that is open is replaced."""

    def land(self, user: int, kind: int, items: U64, now_ms: int) -> int:
        """How many were open and had not landed. The ttl begins."""

    def fail(self, user: int, kind: int, items: U64, now_ms: int) -> int:
        """How many were open and had not landed: these end."""

    def ask(
        self,
        user: int,
        kind: int,
        items: U64,
        sources: U8,
        read_ms: int,
        now_ms: int,
        lead_ms: I64,
        age_ms: I64,
    ) -> int:
        """A request has read `items` between `read_ms` and now, from `sources` uint8 [n], 0 to 15,
        0: direct. Returns of how many that was the first use; the first so many of `lead_ms` (since
        issued) and `age_ms` (since landed), both with room for n, are theirs. What has landed
        before `read_ms` and was not direct ends as wasted (its ttl has passed) or evicted."""

    def invalidate(self, user: int, kind: int) -> int:
        """Ends all open pairs of a user; how many."""

    def due(self, now_ms: int, users: U64, kinds: U8, items: U64) -> int:
        """Pairs that landed more than a ttl ago, oldest first, in these buffers; how many. They
        stay open until `settle`, which must be the next call. What has not landed in a ttl
        ends as failed."""

    def settle(self, there: U8) -> None:
        """Ends what `due` has said: wasted where `there` is not 0, else evicted."""

    def is_open(self, user: int, kind: int) -> bool:
        """Whether the user has an open pair."""

    @property
    def open(self) -> int: ...
    @property
    def open_users(self) -> int: ...
    @property
    def late(self) -> int:
        """Pairs asked for in vain while they were being computed."""

    def issued(self) -> U64:
        """[origins]."""

    def landed(self) -> U64:
        """[origins]."""

    def unread(self) -> U64:
        """[origins]: landed and open."""

    def asked(self) -> U64:
        """[16]: pairs asked for by source."""

    def outcomes(self) -> U64:
        """[origins, outcomes]."""

    def check(self) -> list[str]:
        """The violated invariants (empty: sound): of each origin, issued = ended + open."""
