"""The served-feature log: of a share of the requests, what their ranking really saw.

Invariant: a request is never held up, whatever becomes of its row: after its reply, one comparison
says whether it is logged, and then its arrays are kept as they are, nothing copied, until a thread
writes them. A row that finds the buffer full, or its file not writable, is counted and gone.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from predawn.server.clock import Clock
from predawn.server.metrics import Metrics
from predawn.server.request import RankReply, RankRequest
from predawn.server.served_log_columns import Layout, Seen
from predawn.server.served_log_files import FilesLeft, ServedLogFiles

_LOG = logging.getLogger(__name__)
_QUIET_NS = 10_000_000_000  # between two lines about files that cannot be written


@dataclass(frozen=True, slots=True)
class ServedLogLimits:
    """As `[served_log]`. share: of the requests; size_limit, buffer_limit: bytes."""

    share: float
    rows_per_file: int
    size_limit: int
    flush_delay_ms: int
    buffer_limit: int


class Ranking(Protocol):
    """`server.pipeline.Pipeline`."""

    async def rank(self, request: RankRequest) -> RankReply:
        """Answers one request."""
        ...

    def after_reply(self, request: RankRequest, reply: RankReply) -> None:
        """Called once the reply is on its way."""
        ...


class LoggedRanking:
    """A ranking whose requests are logged."""

    def __init__(self, ranking: Ranking, log: "ServedLog") -> None:
        self._ranking = ranking
        self._log = log

    async def rank(self, request: RankRequest) -> RankReply:
        """As the ranking does."""
        return await self._ranking.rank(request)

    def after_reply(self, request: RankRequest, reply: RankReply) -> None:
        """As the ranking does; then its row."""
        self._ranking.after_reply(request, reply)
        self._log.seen(request, reply)


class ServedLog:
    """versions: live version of each ranker, asked for logged requests only."""

    def __init__(
        self,
        directory: Path,
        layout: Layout,
        limits: ServedLogLimits,
        versions: Callable[[str], int],
        clock: Clock,
        metrics: Metrics,
        seed: int = 0,
    ) -> None:
        self._files = ServedLogFiles(directory, layout, limits.size_limit)
        self._limits = limits
        self._versions = versions
        self._clock = clock
        self._metrics = metrics
        self._seed = seed
        self._below = round(limits.share * 2**32)
        self._buffer: list[tuple[Seen, int]] = []
        self._held_bytes = 0  # of the rows in the buffer and of those being written
        self._some, self._many = asyncio.Event(), asyncio.Event()
        self._writing = asyncio.Lock()
        self._quiet_until_ns = 0
        # Not a nicer one: it would be put off while it holds the interpreter, and requests with it.
        self._thread = ThreadPoolExecutor(1, "served-log")
        left = self._files.left()
        metrics.served_log.files, metrics.served_log.bytes = left.files, left.bytes

    def seen(self, request: RankRequest, reply: RankReply) -> None:
        """Logs a request that was answered, if it is one of the share."""
        if crc32(request.request_id.encode(), self._seed) >= self._below:
            return
        held = held_bytes(request, reply)
        if self._held_bytes + held > self._limits.buffer_limit:
            self._metrics.served_log.rows["dropped"] += 1
            return
        version = self._versions(request.ranker)
        self._buffer.append((Seen(self._clock.wall_ms(), version, request, reply), held))
        self._held_bytes += held
        self._some.set()
        if len(self._buffer) >= self._limits.rows_per_file:
            self._many.set()

    async def run(self) -> None:
        """Writes a file when its rows are there or have waited long enough; until cancelled."""
        while True:
            await self._some.wait()
            try:
                async with asyncio.timeout(self._limits.flush_delay_ms / 1000):
                    await self._many.wait()
            except TimeoutError:
                pass
            await self._write()

    async def close(self) -> None:
        """Writes what is left."""
        while self._buffer:
            await self._write()
        async with self._writing:
            self._thread.shutdown()

    async def _write(self) -> None:
        """The oldest rows of the buffer, at most a file."""
        async with self._writing:
            count = self._limits.rows_per_file
            taken, self._buffer = self._buffer[:count], self._buffer[count:]
            if not self._buffer:
                self._some.clear()
            if len(self._buffer) < count:
                self._many.clear()
            if taken:
                try:
                    await self._write_rows([row for row, _ in taken])
                finally:
                    self._held_bytes -= sum(held for _, held in taken)

    async def _write_rows(self, rows: Sequence[Seen]) -> None:
        counts, now_ms = self._metrics.served_log, self._clock.wall_ms()
        write = partial(self._files.write, rows, now_ms)
        try:
            left: FilesLeft = await asyncio.get_running_loop().run_in_executor(self._thread, write)
        except Exception as error:  # of whatever kind: requests go on
            counts.rows["failed"] += len(rows)
            self._say(error)
            return
        counts.rows["written"] += len(rows)
        counts.files, counts.bytes = left.files, left.bytes
        counts.files_removed += left.removed

    def _say(self, error: Exception) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._quiet_until_ns:
            self._quiet_until_ns = now_ns + _QUIET_NS
            _LOG.warning("served_log: a file could not be written, its rows are lost: %s", error)


def held_bytes(request: RankRequest, reply: RankReply) -> int:
    """Memory that lives on with a request and its reply. A row of a batch keeps the batch."""
    arrays: list[NDArray[np.generic] | None] = [request.item_hashes, request.item_features]
    arrays += [reply.scores, reply.order, reply.task_scores]
    arrays += [row.row for row in reply.users.values()]
    for pairs in reply.pairs.values():
        arrays += [pairs.rows, pairs.sources, pairs.ages_ms]
    return sum(_whole(array).nbytes for array in arrays if array is not None)


def _whole(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array.base if isinstance(array.base, np.ndarray) else array
