"""Requests, replies and a served-feature log of them, for the tests of the log."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
from model_cases import PAIR_RANKER, TOWER, rank_batch, ranker

from predawn.server.clock import SystemClock
from predawn.server.metrics import Metrics
from predawn.server.models.ranker import Ranker
from predawn.server.request import PairRows, RankReply, RankRequest, Source, UserId, UserRow
from predawn.server.served_log import ServedLog, ServedLogLimits
from predawn.server.served_log_columns import Layout, RankerInputs, Seen, Values
from predawn.server.served_log_files import ServedLogFiles

PARTS = ranker(shape=PAIR_RANKER)
RANKER = Ranker(PAIR_RANKER, PARTS.tensors)
DIMS = {"fm": 16, "side": 4}
INPUTS = RankerInputs(("sum",), tuple(DIMS), RANKER.tasks, RANKER.item_features)
OTHER = RankerInputs(("sum", "second"), (), ("view",), ("price",))


def layout(values: Values = "fp32") -> Layout:
    """Of two rankers that read different models."""
    users = {"sum": TOWER.dim, "second": 3}
    return Layout({"ctr": INPUTS, "other": OTHER}, users, DIMS, values)


def limits(
    share: float = 1.0,
    rows_per_file: int = 8,
    size_limit: int = 10**9,
    flush_delay_ms: int = 10_000,
    buffer_limit: int = 10**9,
) -> ServedLogLimits:
    """Of a log of everything without bounds, unless said."""
    return ServedLogLimits(share, rows_per_file, size_limit, flush_delay_ms, buffer_limit)


def asked(count: int, seed: int = 0) -> list[tuple[RankRequest, RankReply]]:
    """Requests of 1 .. 5 candidates as `RANKER` answers them, of integer and string users."""
    rng = np.random.default_rng(seed)
    return [_asked(number, int(n)) for number, n in enumerate(rng.integers(1, 6, count))]


def _asked(number: int, candidates: int) -> tuple[RankRequest, RankReply]:
    batch = rank_batch([candidates], PARTS.items, seed=number, shape=PAIR_RANKER)
    pairs = np.nan_to_num(batch.pairs)
    scores = RANKER.score(batch)
    request = RankRequest(
        user=user_of(number),
        item_hashes=batch.item_hashes,
        item_features=batch.item_features,
        ranker="ctr",
        deadline_ns=0,
        top_k=2,
        request_id=f"r-{number}",
    )
    reply = RankReply(
        order=np.argsort(-scores[:, 0])[:2].astype(np.int64),
        scores=scores[:, 0].copy(),
        users={"sum": UserRow(Source(int(batch.sources[0, 0])), 40 + number, batch.user[0], 3)},
        degraded=number % 2 == 1,
        task_scores=scores,
        tasks=RANKER.tasks,
        pairs={
            name: PairRows(pairs[:, columns], batch.pair_sources[:, at], ages, [])
            for at, (name, columns) in enumerate((("fm", slice(16)), ("side", slice(16, 20))))
            for ages in [np.arange(candidates, dtype=np.int64) - 1]
        },
    )
    return request, reply


def user_of(number: int) -> UserId:
    """Every third one is a string; the integers need all 64 bits."""
    return f"user {number}" if number % 3 == 0 else 2**64 - 1 - number


Use = Callable[[ServedLog, Metrics], Awaitable[None]]


def with_log(
    directory: Path,
    use: Use,
    set_to: ServedLogLimits | None = None,
    values: Values = "fp32",
    clock: SystemClock | None = None,
) -> Metrics:
    """`use` while the log runs; then it is closed."""
    metrics = Metrics((), ("ctr", "other"))

    async def main() -> None:
        log = ServedLog(
            directory,
            layout(values),
            set_to or limits(),
            lambda name: 7,
            clock or SystemClock(),
            metrics,
        )
        running = asyncio.create_task(log.run())
        await use(log, metrics)
        await log.close()
        running.cancel()

    asyncio.run(main())
    return metrics


def log_of(
    directory: Path,
    rows: Sequence[tuple[RankRequest, RankReply]],
    set_to: ServedLogLimits | None = None,
    values: Values = "fp32",
) -> Metrics:
    """A log of some requests."""

    async def use(log: ServedLog, metrics: Metrics) -> None:
        for request, reply in rows:
            log.seen(request, reply)

    return with_log(directory, use, set_to, values)


def write_on(directory: Path) -> None:
    """Writes a file of 20 rows after the other, until it is killed."""
    files = ServedLogFiles(directory, layout(), 10**9)
    seen = [Seen(number, 7, *each) for number, each in enumerate(asked(20))]
    while True:
        files.write(seen, 1)
