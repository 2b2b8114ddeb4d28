"""An engine for tests: runs on the loop's (virtual) time, does what its script says, keeps a log.

The embedding of a call's user is `[user number, number of the call]`, so that a test can tell
which computation a served row came from.
"""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from predawn.server.clock import Clock
from predawn.server.engine import Computed
from predawn.server.errors import InferenceError
from predawn.server.request import UserId

DIM = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One call: how long it takes, whether all of it fails, which rows are not finite."""

    latency_s: float = 0.005
    error: str = ""
    bad_rows: tuple[int, ...] = ()


@dataclass(slots=True)
class Call:
    """One batch as the engine saw it. ended_ns -1: still running."""

    number: int
    model: str
    users: tuple[UserId, ...]
    began_ns: int
    ended_ns: int = -1
    failed: bool = False
    bad_rows: tuple[int, ...] = ()


Script = Callable[[int, str, Sequence[UserId]], Step]


def steady(number: int, model: str, users: Sequence[UserId]) -> Step:
    """Every call takes 5 ms and succeeds."""
    return Step()


def user_number(user: UserId) -> float:
    """A small number per user: integers as they are (modulo 1000), strings above 1000 and with a
    fraction that no half holds."""
    return user % 1000 if isinstance(user, int) else 1000.3 + zlib.crc32(user.encode()) % 1000


class ScriptedEngine:
    """`script(number of the call, model, users)` says what happens; `calls` is the log."""

    def __init__(self, clock: Clock, script: Script = steady) -> None:
        self.calls: list[Call] = []
        self.script = script
        self.on_call: Callable[[Call], None] = lambda call: None
        self._clock = clock

    async def embed(self, model: str, users: Sequence[UserId]) -> Computed:
        call = Call(len(self.calls), model, tuple(users), self._clock.monotonic_ns())
        self.calls.append(call)
        self.on_call(call)
        step = self.script(call.number, model, users)

        await asyncio.sleep(step.latency_s)

        call.ended_ns = self._clock.monotonic_ns()
        call.failed, call.bad_rows = bool(step.error), step.bad_rows
        if step.error:
            raise InferenceError(model, step.error)
        rows = np.array([[user_number(u), call.number] for u in users], dtype=np.float32)
        ok = np.ones(len(users), dtype=np.bool_)
        for i in step.bad_rows:
            rows[i], ok[i] = np.nan, False
        error = "" if ok.all() else "the embedding is not finite"
        return Computed(rows, ok, call.number, call.ended_ns - call.began_ns, error)
