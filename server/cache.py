"""The store of user embeddings as the server sees it: typed, batched, one table per user model.

Invariant: everything that `land` returned is what `read` gives from then on, bit for bit, until it
is overwritten, invalidated, evicted or too old. Rows are written behind, in groups, at most
`flush_delay_ms` later (ERCache's grouped asynchronous writes); until then they are read from the
pending rows. Used on the event loop's thread only.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

from predawn.server.cache_place import StorePlace, TableSpec
from predawn.server.cache_table import ModelTable, Reading
from predawn.server.clock import Clock
from predawn.server.errors import ConfigError, UnknownName
from predawn.server.request import F32, UserId

__all__ = ["Reading", "StorePlace", "TableSpec", "UserCache"]

_LOG = logging.getLogger(__name__)
_LOG_EVERY_NS = 10_000_000_000  # a table that cannot be made is said once in so much time

InvalidationWatcher = Callable[[str, Sequence[UserId]], None]
LandingWatcher = Callable[[str, Sequence[UserId], F32, int], None]


class UserCache:
    """flush_delay_ms: longest wait of a landed row for its write; flush_rows: so many are written
    at once (bounds the pending rows); seed: 32 bytes, random when None (string ids are hashed with
    it, so that nobody can craft collisions); place: where the tables lie. Tables that are there
    already are attached (ConfigError when they do not fit): a restart is warm."""

    def __init__(
        self,
        specs: Sequence[TableSpec],
        clock: Clock,
        flush_delay_ms: int,
        flush_rows: int,
        seed: bytes | None = None,
        place: StorePlace = StorePlace(),  # noqa: B008 - frozen
    ) -> None:
        seed = secrets.token_bytes(32) if seed is None else seed
        self._tables = {spec.model: ModelTable(spec, seed, place) for spec in specs}
        self._clock = clock
        self._flush_delay_s = flush_delay_ms / 1_000
        self._flush_rows = flush_rows
        self._watchers: list[InvalidationWatcher] = []
        self._landing_watchers: list[LandingWatcher] = []
        self._landed = asyncio.Event()
        self._making = asyncio.Lock()
        self._logged_ns = -_LOG_EVERY_NS

    def models(self) -> tuple[str, ...]:
        """Names of the user models, in the order given."""
        return tuple(self._tables)

    def default(self, model: str) -> F32:
        """float32 [dim], read-only: what an absent user is served."""
        return self._tables[model].default

    def replace_default(self, model: str, default: F32) -> None:
        """From now on absent users are served `default`, float32 [dim]; ConfigError when it has
        another length. What an answer under way already holds stays as it is."""
        self._tables[model].replace_default(default)

    def read(self, model: str, users: Sequence[UserId], max_age_ms: int) -> Reading:
        """Entries of at most `max_age_ms` (0 or more), the default for the others. Age counts from
        landing; reading does not renew it."""
        table, now_ms = self._tables[model], self._clock.wall_ms()
        if len(users) == 1:
            return table.read_one(users[0], now_ms, max_age_ms)
        return table.read(users, now_ms, max_age_ms)

    def land(self, model: str, users: Sequence[UserId], raw: F32, snapshot: int) -> F32:
        """Stabilises and rounds new vectors [n, dim] and queues them for the next grouped write;
        returns what is served from now on, float32 [n, dim]."""
        table = self._tables[model]
        served = table.land(users, raw, snapshot, self._clock.wall_ms())
        if sum(each.pending for each in self._tables.values()) >= self._flush_rows:
            self.flush()
        else:
            self._landed.set()
        for watcher in self._landing_watchers:
            watcher(model, users, served, snapshot)
        return served

    def flush(self) -> int:
        """Writes everything that has landed now, but for rows whose table is still to be made (see
        `flushed`); returns the number of rows."""
        written = sum(table.flush() for table in self._tables.values())
        if any(table.pending for table in self._tables.values()):
            self._landed.set()
        else:
            self._landed.clear()
        return written

    async def flushed(self) -> None:
        """Everything landed so far is written when this returns."""
        await self._make_missing()
        self.flush()

    async def run(self) -> None:
        """The flusher: until cancelled, then writes what is left."""
        try:
            while True:
                await self._landed.wait()

                await asyncio.sleep(self._flush_delay_s)

                await self.flushed()
        finally:
            self.flush()

    async def _make_missing(self) -> None:
        """Makes tables that take long in a thread; their rows are read from the pending ones
        meanwhile. A table that cannot be made costs its rows, not the server: said in the log."""
        async with self._making:
            for name, table in self._tables.items():
                for kind in table.missing():
                    try:
                        await asyncio.to_thread(table.make, kind)

                    except (ConfigError, OSError, MemoryError, RuntimeError) as error:
                        self._lost(name, table.drop_pending(kind), error)

    def _lost(self, model: str, rows: int, error: Exception) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._logged_ns >= _LOG_EVERY_NS:
            self._logged_ns = now_ns
            _LOG.error("store: %d rows of model %s are lost: %s", rows, model, error)

    def on_land(self, watcher: LandingWatcher) -> None:
        """`watcher(model, users, served, snapshot)` is called with every batch that lands."""
        self._landing_watchers.append(watcher)

    def on_invalidate(self, watcher: InvalidationWatcher) -> None:
        """`watcher(model, users)` is called at every invalidation: the batcher's, so that a
        computation under way cannot bring the old state back."""
        self._watchers.append(watcher)

    def invalidate(self, users: Sequence[UserId], models: Sequence[str] | None) -> int:
        """Removes `users` from `models` (None: all), written or landed, and tells the watchers;
        returns the number of entries removed. UnknownName before anything is changed."""
        for at, name in enumerate(models or ()):
            if name not in self._tables:
                raise UnknownName(f"models[{at}]", name, self._tables)
        users = list(dict.fromkeys(users))
        removed = 0
        for name in dict.fromkeys(self._tables if models is None else models):
            removed += self._tables[name].invalidate(users)
            for watcher in self._watchers:
                watcher(name, users)
        return removed

    def close(self) -> None:
        """Writes what has landed and leaves the tables; files are marked as cleanly closed. What
        waits for a table that was never made is lost."""
        self.flush()
        for table in self._tables.values():
            table.close()

    def stats(self) -> dict[str, dict[str, int]]:
        """Per model: the native counters (summed over id kinds) and `pending`."""
        return {name: table.stats() for name, table in self._tables.items()}

    def check(self) -> list[str]:
        """The violated invariants of all tables (empty: sound)."""
        return [sentence for table in self._tables.values() for sentence in table.check()]
