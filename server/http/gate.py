"""How many requests are inside, and whether more may come in.

Invariant: `inside` is at most `limit`; every `enter` that returned has one `leave`. States only
move forward: serving -> leaving (not ready, still accepting) -> draining (refusing).
"""

import asyncio
import random
from enum import IntEnum

from predawn.server.errors import Overloaded, Unavailable


class Phase(IntEnum):
    """Life of the server, in order."""

    SERVING = 0
    LEAVING = 1
    DRAINING = 2


class Gate:
    """Admission and drain. Used on the event loop only."""

    def __init__(self, limit: int, seed: int) -> None:
        self.limit = limit
        self.inside = 0
        self.phase = Phase.SERVING
        self._random = random.Random(seed)
        self._empty = asyncio.Event()
        self._empty.set()

    def enter(self) -> None:
        """Overloaded when `limit` requests are inside; Unavailable when draining."""
        if self.phase == Phase.DRAINING:
            raise Unavailable("the server is draining; another one will answer")
        if self.inside >= self.limit:
            reason = f"http.in_flight_limit: {self.limit} requests are being served"
            raise Overloaded(reason, self.retry_after_s())
        self.inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """A request that had entered has ended."""
        self.inside -= 1
        if self.inside == 0:
            self._empty.set()

    def advance(self, phase: Phase) -> None:
        """On to a later phase."""
        self.phase = max(self.phase, phase)

    async def empty(self) -> None:
        """Returns when nobody is inside."""
        await self._empty.wait()

    def retry_after_s(self) -> float:
        """When to come back: 1 to 3 seconds, spread so that refused clients do not return as one
        wave."""
        return self._random.uniform(1.0, 3.0)
