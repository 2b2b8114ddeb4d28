"""The foundation model of the simulation of pairs: its rows say what they were made of.

A row is `[1, model, user, item, version, epoch, call // 1024, call % 1024, line]`: user is his
number, epoch how often he had been invalidated when the call began, line that of the version:
versions of one line are alike. All are whole and below 2,048, so that fp16 keeps them, and in any
weighted sum of rows the value of what they have in common is that of the first, times it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from predawn.server.clock import Clock
from predawn.server.engine import Computed
from predawn.server.errors import EngineLost, InferenceError
from predawn.server.request import F32, I64, UserId, UserItems

DIM = 9
ONE, MODEL, USER, ITEM, VERSION, EPOCH, HIGH, LOW, LINE = range(DIM)
VERSIONS_ALIKE = 3  # in a row: 1 to 3, 4 to 6, ...
CALLS_MOST = 2_048 * 1_024


@dataclass(frozen=True, slots=True)
class Step:
    """One call: how long it takes, how it fails ("", "failed", "lost": with its process), which
    share of its rows is not finite."""

    latency_s: float = 0.005
    fault: str = ""
    bad: float = 0.0


@dataclass(slots=True)
class PairCall:
    """One batch as the engine saw it, a row per pair. users: numbers; epochs: of the users as it
    began; ended: "", while it runs, then "ok", "failed" or "cancelled"."""

    number: int
    model: str
    version: int
    users: I64
    items: I64
    epochs: I64
    began_ns: int
    ok: NDArray[np.bool_]
    ended: str = ""
    ended_ns: int = -1
    charged_ns: int = 0
    landed: int = 0


Script = Callable[[int], Step]
"""What a call of that number does."""


def line_of(version: int) -> int:
    """Versions of one line are alike."""
    return (version - 1) // VERSIONS_ALIKE


@dataclass
class AheadEngine:
    """numbers: of the users by id; epochs: int64 [users], the world's, as they are now."""

    clock: Clock
    script: Script
    models: Sequence[str]
    numbers: Mapping[UserId, int]
    epochs: I64
    bad_seed: int
    began: Callable[[PairCall], None] = lambda call: None
    calls: list[PairCall] = field(default_factory=list[PairCall])
    versions: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.bad_seed)
        self.versions = dict.fromkeys(self.models, 1)

    async def pairs(self, model: str, wanted: Sequence[UserItems]) -> Computed:
        """As the real one; whole batches, one after the other only if that is how they come."""
        step = self.script(len(self.calls))
        call = self._call(model, wanted, step)
        rows = self._rows(call)
        self.calls.append(call)
        self.began(call)
        try:
            await asyncio.sleep(step.latency_s)
            call.ended = "failed" if step.fault else "ok"
        finally:
            call.ended = call.ended or "cancelled"
            call.ended_ns = self.clock.monotonic_ns()
            if call.ended != "cancelled":  # by a stop, which ends the accounts, too
                call.charged_ns = call.ended_ns - call.began_ns
        if step.fault:
            raise (EngineLost if step.fault == "lost" else InferenceError)(model, step.fault)
        rows[~call.ok] = np.nan
        error = "" if call.ok.all() else "the embedding is not finite"
        return Computed(rows, call.ok, call.version, call.charged_ns, error)

    def _call(self, model: str, wanted: Sequence[UserItems], step: Step) -> PairCall:
        items = np.concatenate([each.item_hashes for each in wanted]).astype(np.int64)
        users = np.repeat(
            [self.numbers[each.user] for each in wanted],
            [len(each.item_hashes) for each in wanted],
        )
        ok = self._rng.random(len(items)) >= step.bad
        number, now_ns = len(self.calls), self.clock.monotonic_ns()
        version = self.versions[model]
        return PairCall(number, model, version, users, items, self.epochs[users], now_ns, ok)

    def _rows(self, call: PairCall) -> F32:
        assert call.number < CALLS_MOST
        rows = np.ones((len(call.items), DIM), dtype=np.float32)
        rows[:, MODEL] = self.models.index(call.model)
        rows[:, USER] = call.users
        rows[:, ITEM] = call.items
        rows[:, VERSION] = call.version
        rows[:, EPOCH] = call.epochs
        rows[:, LINE] = line_of(call.version)
        rows[:, HIGH] = call.number // 1_024
        rows[:, LOW] = call.number % 1_024
        return rows
