"""`predawn demo`: prepares models, starts a server on loopback and lets users loose on it.

Ends after `seconds`, on Ctrl-C or SIGTERM, or when the server dies (then it says why); whatever
it started ends with it.
"""

import asyncio
import json
import signal
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.console import Console
from rich.live import Live
from rich.progress import Progress, TaskID

from predawn.bench import prepare, rig
from predawn.bench.child import Child, ChildDied, free_port
from predawn.bench.demo_traffic import Pace, Traffic, pace_of, past_bodies, start_shift_ms
from predawn.bench.demo_view import Account, Tally, account_of, line, summary, table
from predawn.bench.load import OpenLoop
from predawn.bench.prepare import Prepared, Size
from predawn.server.clock import Clock, SystemClock

RANKERS = ("feed", "ads")
"""Two rankers that read the same user embeddings, as in SUM."""

PAIRS = "fm"
"""The model of pairs, which both rankers read and which is computed before they ask (SOLARIS)."""

DIRECT_TTL_MS = 5 * 60_000
FAILOVER_TTL_MS = 2 * 3_600_000
PAIR_TTL_MS = 6 * 3_600_000
_REFRESH_S = 0.5
_LINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Demo:
    """seconds: None for ever; rate: requests per second; size: of the workload and its models."""

    console: Console
    seconds: float | None = None
    rate: float = 200.0
    size: Size = prepare.DEMO

    def run(self) -> dict[str, Any]:
        """Runs the demo; its summary. ChildDied with the server's last words if it dies."""
        state = prepare.state_dir()
        state.mkdir(parents=True, exist_ok=True)
        prepared = self._prepared(state)
        pace = pace_of(prepared.live, self.rate)
        with tempfile.TemporaryDirectory(prefix="run-", dir=state) as folder:
            wanted = settings(Path(folder), free_port(), prepared.snapshot, pace)
            with rig.start(wanted, Path(folder)) as child:
                return self._on(child, prepared, pace)

    def _prepared(self, state: Path) -> Prepared:
        with _steps(self.console) as step:
            return prepare.prepare(self.size, state / "models", step)

    def _on(self, child: Child, prepared: Prepared, pace: Pace) -> dict[str, Any]:
        clock = SystemClock()
        shift_ms = start_shift_ms(prepared.past, clock.wall_ms())
        with _steps(self.console) as step:
            step("starting the server", 0.0)
            rig.wait_ready(child)
            step("starting the server", 1.0)
            _preload(child, prepared, shift_ms, step)
        traffic = Traffic(prepared.live, self.rate, RANKERS, shift_ms)
        self.console.print(_first_request(child, traffic), markup=False, soft_wrap=True)
        live = _Live(self, child, traffic, _caption(pace), clock)
        return uvloop.run(live.run())


def settings(folder: Path, port: int, snapshot: Path, pace: Pace) -> rig.Settings:
    """The demo's predawn.toml: soap, pairs ahead of requests, ages compressed like everything else
    in time."""
    model = {
        "mode": "soap",
        "direct_ttl": pace.compressed_ms(DIRECT_TTL_MS),
        "failover_ttl": pace.compressed_ms(FAILOVER_TTL_MS),
        "average_over": 3,
        "default": "mean",
    }
    found = rig.reference_settings(folder, port, snapshot, model, RANKERS)
    found["pairs"] = {PAIRS: {"snapshot": str(snapshot), "ttl": pace.compressed_ms(PAIR_TTL_MS)}}
    for ranker in found["rankers"].values():
        ranker["pair_models"] = [PAIRS]
    # Two cores have to do for clients and server: a request is late only when something is wrong.
    found["http"]["timeout"] = "2s"
    return found


def _caption(pace: Pace) -> str:
    direct_s = pace.compressed_ms(DIRECT_TTL_MS) / 1000
    failover_s = pace.compressed_ms(FAILOVER_TTL_MS) / 1000
    pairs_s = pace.compressed_ms(PAIR_TTL_MS) / 1000
    return (
        f"Time is compressed: a second here is {pace.compression:.0f} s of the workload, so "
        f"direct_ttl 5 min is {direct_s:.1f} s, failover_ttl 2 h is {failover_s:.0f} s and the "
        f"ttl of pairs, 6 h, is {pairs_s:.0f} s. "
        "p50 and p99 count from the intended time of sending."
    )


def _first_request(child: Child, traffic: Traffic) -> str:
    body = json.dumps(json.loads(traffic.rank_body(0)))
    url, header = f"http://127.0.0.1:{child.port}/v1/rank", "content-type: application/json"
    return f"Ask it yourself:\n  curl -s {url} -H '{header}' -d '{body}'\n"


def _preload(child: Child, prepared: Prepared, shift_ms: int, step: prepare.Progress) -> None:
    """Gives the server the histories that users had before the demo."""
    done = 0
    for body in past_bodies(prepared.past, shift_ms):
        status, reply = child.request("POST", "/v1/events", body, timeout_s=30)
        if status != 200:
            raise ChildDied(f"{child}: refused events with {status}: {reply.decode()[:500]}")
        done += orjson.loads(reply)["accepted"]
        step("loading histories", done / prepared.past.rows)


@contextmanager
def _steps(console: Console) -> Generator[prepare.Progress, None, None]:
    """A progress bar per step, made when the step is first heard of; else a line per step."""
    with Progress(console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def step(name: str, share: float) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=1.0)
                if not console.is_terminal:
                    console.print(name)
            bars.update(tasks[name], completed=share)

        yield step


class _Live:
    """The part with users: load and picture on one event loop."""

    def __init__(
        self, demo: Demo, child: Child, traffic: Traffic, caption: str, clock: Clock
    ) -> None:
        self._demo = demo
        self._child = child
        self._caption = caption
        self._clock = clock
        self._tally = Tally()
        self._account = Account()
        self._next_line_s = _LINE_S
        sends = traffic.sends()
        self._load = OpenLoop("127.0.0.1", child.port, sends, self._tally, clock, connections=64)

    async def run(self) -> dict[str, Any]:
        """Until it is over; the summary."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._load.stop)
        if self._demo.seconds is not None:
            loop.call_later(self._demo.seconds, self._load.stop)
        start_ns = self._clock.monotonic_ns()
        load = loop.create_task(self._load.run())
        try:
            await self._show_until(load, start_ns)
        finally:
            self._load.stop()
            totals = await load
        seconds = (totals.ended_ns - start_ns) / 1e9
        await self._update()
        found = summary(self._tally, self._account, seconds)
        self._demo.console.print(table(self._tally, self._account, seconds, self._caption))
        return found

    async def _show_until(self, load: "asyncio.Task[Any]", start_ns: int) -> None:
        with Live(console=self._demo.console, auto_refresh=False, transient=True) as live:
            while not load.done():
                await asyncio.wait({load}, timeout=_REFRESH_S)
                await self._update()
                if not self._child.alive:
                    words = self._child.last_words()
                    raise ChildDied(f"{self._child} died under load; its last words:\n{words}")
                seconds = (self._clock.monotonic_ns() - start_ns) / 1e9
                self._picture(live, seconds)

    def _picture(self, live: Live, seconds: float) -> None:
        """The table, drawn anew; a line now and then where nothing can be drawn over."""
        if self._demo.console.is_terminal:
            caption = f"{self._caption} Ctrl-C ends it."
            rows = self._demo.console.height
            live.update(table(self._tally, self._account, seconds, caption, rows), refresh=True)
        elif seconds >= self._next_line_s:
            self._next_line_s += _LINE_S
            self._demo.console.print(line(self._tally, self._account, seconds), soft_wrap=True)

    async def _update(self) -> None:
        """Asks the server for its account; keeps the last one when it does not answer now."""
        try:
            status, body = await asyncio.to_thread(self._child.get, "/info", 2.0)
        except (OSError, HTTPException):
            return
        if status == 200:
            self._account = account_of(orjson.loads(body))
