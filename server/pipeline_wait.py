"""The only place where a request waits for a user model, and how that ends.

Invariant: a wait ends at its instant whatever the engine does, and always with a row: the computed
one, or the fallback that the policy named, with the reason.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from predawn.server.batcher import Batcher
from predawn.server.batcher_queue import Caller
from predawn.server.clock import Clock
from predawn.server.errors import DeadlineExceeded, InferenceError, Overloaded
from predawn.server.request import Lane, Source, UserId, UserRow

TIMEOUT = "timeout"
OVERLOADED = "overloaded"


async def computed(
    batcher: Batcher,
    clock: Clock,
    user: UserId,
    due_ns: Mapping[str, int],
    rows: dict[str, UserRow],
) -> None:
    """Has the models in `due_ns` computed for `user`, all at once, and waits for each up to its
    instant; replaces their fallbacks in `rows`, or gives them the reason why not."""
    asked: dict[str, Caller] = {}
    try:
        for model, until_ns in due_ns.items():
            try:
                asked[model] = batcher.submit(model, user, Lane.WAIT, until_ns)
            except Overloaded:
                rows[model] = replace(rows[model], reason=OVERLOADED)

        for model, caller in asked.items():
            left_s = max(0, due_ns[model] - clock.monotonic_ns()) / 1e9
            await asyncio.wait((caller,), timeout=left_s)

            rows[model] = _ended(caller, rows[model])
    finally:
        for caller in asked.values():
            caller.cancel()


def _ended(caller: Caller, fallback: UserRow) -> UserRow:
    if not caller.done():
        return replace(fallback, reason=TIMEOUT)
    error = caller.exception()
    if error is not None:
        return replace(fallback, reason=_reason(error))
    row, snapshot = caller.result()
    return UserRow(Source.COMPUTED, 0, row, snapshot)


def _reason(error: BaseException) -> str:
    if isinstance(error, DeadlineExceeded):
        return TIMEOUT
    if isinstance(error, InferenceError):
        return f"failed: {error.reason}"
    return str(error)
