"""An engine for tests: runs on the loop's (virtual) time, does what its script says, keeps a log.

The embedding of a call's user is `[user number, number of the call]`, that of a pair `[user number,
item, number of the call]`, so that a test can tell which computation a served row came from.
"""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from predawn.server.clock import Clock
from predawn.server.engine import Computed
from predawn.server.errors import EngineLost, InferenceError
from predawn.server.request import UserId, UserItems

DIM = 2
PAIR_DIM = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One call: how long it takes, whether all of it fails, which rows are not finite; lost: the
    failure is that of a lost process."""

    latency_s: float = 0.005
    error: str = ""
    bad_rows: tuple[int, ...] = ()
    lost: bool = False


@dataclass(slots=True)
class Call:
    """One batch as the engine saw it. users: of each row; items: of each row of pairs. ended_ns
    -1: still running."""

    number: int
    model: str
    users: tuple[UserId, ...]
    began_ns: int
    items: tuple[int, ...] = ()
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
    """`script(number of the call, model, users)` says what happens; `calls` and `pair_calls` are
    the logs, numbered apart."""

    def __init__(self, clock: Clock, script: Script = steady) -> None:
        self.calls: list[Call] = []
        self.pair_calls: list[Call] = []
        self.script = script
        self.on_call: Callable[[Call], None] = lambda call: None
        self.on_pair_call: Callable[[Call], None] = lambda call: None
        self._clock = clock

    async def embed(self, model: str, users: Sequence[UserId]) -> Computed:
        call = Call(len(self.calls), model, tuple(users), self._clock.monotonic_ns())
        self.calls.append(call)
        self.on_call(call)
        return await self._run(call, [[user_number(user), call.number] for user in users])

    async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
        pairs = [(each.user, item) for each in wanted for item in each.item_hashes.tolist()]
        users, items = tuple(user for user, _ in pairs), tuple(item for _, item in pairs)
        number, now_ns = len(self.pair_calls), self._clock.monotonic_ns()
        call = Call(number, model, users, now_ns, items)
        self.pair_calls.append(call)
        self.on_pair_call(call)
        return await self._run(call, [[user_number(user), item, number] for user, item in pairs])

    async def _run(self, call: Call, values: list[list[float]]) -> Computed:
        step = self.script(call.number, call.model, call.users)

        await asyncio.sleep(step.latency_s)

        call.ended_ns = self._clock.monotonic_ns()
        call.failed, call.bad_rows = bool(step.error), step.bad_rows
        if step.error:
            raise (EngineLost if step.lost else InferenceError)(call.model, step.error)
        rows = np.array(values, dtype=np.float32)
        ok = np.ones(len(values), dtype=np.bool_)
        for i in step.bad_rows:
            rows[i], ok[i] = np.nan, False
        error = "" if ok.all() else "the embedding is not finite"
        return Computed(rows, ok, call.number, call.ended_ns - call.began_ns, error)
