"""The only place where a request waits for a user model, and how that ends.

Invariant: a wait ends at its instant whatever the engine does, and always with a row: the computed
one, or the fallback that the policy named, with the reason of the last attempt. Only an inference
that failed is asked for again, and only before that instant.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from predawn.server.batcher import Batcher
from predawn.server.batcher_queue import Caller
from predawn.server.clock import Clock
from predawn.server.errors import DeadlineExceeded, InferenceError, Overloaded
from predawn.server.metrics import Metrics
from predawn.server.request import Lane, Source, UserId, UserRow

TIMEOUT = "timeout"
OVERLOADED = "overloaded"


@dataclass(slots=True)
class Wait:
    """One model's wait: its last instant, and how often a failed inference may still be asked for
    again (counted down)."""

    due_ns: int
    retries: int = 0


async def computed(
    batcher: Batcher,
    clock: Clock,
    metrics: Metrics,
    user: UserId,
    waits: Mapping[str, Wait],
    rows: dict[str, UserRow],
) -> None:
    """Has the models in `waits` computed for `user`, all at once, and waits for each up to its
    instant; replaces their fallbacks in `rows`, or gives them the reason why not."""
    asked: dict[str, Caller] = {}

    def ask(model: str) -> None:
        try:
            asked[model] = batcher.submit(model, user, Lane.WAIT, waits[model].due_ns)
        except Overloaded:
            rows[model] = replace(rows[model], reason=OVERLOADED)

    try:
        for model in waits:
            ask(model)

        while asked:
            for model in await _ended(asked, waits, clock):
                caller, wait = asked.pop(model), waits[model]
                rows[model] = _row(caller, rows[model])
                if wait.retries and _failed(caller) and clock.monotonic_ns() < wait.due_ns:
                    wait.retries -= 1
                    metrics.retried(model)
                    ask(model)
    finally:
        for caller in asked.values():
            caller.cancel()


async def _ended(asked: Mapping[str, Caller], waits: Mapping[str, Wait], clock: Clock) -> list[str]:
    """The models whose wait is over next: those that have a result, or else those that are due."""
    first_ns = min(waits[model].due_ns for model in asked)
    left_s = max(0, first_ns - clock.monotonic_ns()) / 1e9
    done, _ = await asyncio.wait(
        asked.values(), timeout=left_s, return_when=asyncio.FIRST_COMPLETED
    )
    if done:
        return [model for model, caller in asked.items() if caller in done]
    return [model for model in asked if waits[model].due_ns == first_ns]


def _row(caller: Caller, fallback: UserRow) -> UserRow:
    """What to serve now that the wait is over; gives up what is not there."""
    if not caller.done():
        caller.cancel()
        return replace(fallback, reason=TIMEOUT)
    error = caller.exception()
    if error is not None:
        return replace(fallback, reason=_reason(error))
    row, snapshot = caller.result()
    return UserRow(Source.COMPUTED, 0, row, snapshot)


def _failed(caller: Caller) -> bool:
    return not caller.cancelled() and isinstance(caller.exception(), InferenceError)


def _reason(error: BaseException) -> str:
    if isinstance(error, DeadlineExceeded):
        return TIMEOUT
    if isinstance(error, InferenceError):
        return f"failed: {error.reason}"
    return str(error)
