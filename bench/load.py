"""An open-loop load generator: requests leave when the schedule says, whatever the server does.

Latency counts from the intended time of sending. A slow server does not slow the schedule: a
request that finds all connections busy waits here, with its clock running, and is counted.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import httptools
import numpy as np

from predawn.bench.timer import Timer
from predawn.server.clock import Clock
from predawn.server.request import I64

NO_CONNECTION = 0
"""Status of a request whose connection failed."""
UNANSWERED = -1
"""Status of a request without an answer when the load had ended and the drain was over."""
TIMING_HEADER = b"x-predawn-timing"


class Send(NamedTuple):
    """One request: when, after the start; the whole HTTP message; the caller's own number."""

    at_ns: int
    message: bytes
    tag: int


class Answer(NamedTuple):
    """What became of a `Send`. Times on the monotonic clock; status as HTTP, or <= 0 (above)."""

    tag: int
    intended_ns: int
    sent_ns: int
    received_ns: int
    status: int
    body: bytes
    timing: bytes  # value of the timing header, b"" without one


class Sink(Protocol):
    """Is told every answer, on the event loop: must be quick."""

    def __call__(self, answer: Answer) -> None: ...


@dataclass(slots=True)
class Totals:
    """offered: sends that came due; waited: those that found every connection busy; ended_ns: when
    sending ended, on the monotonic clock."""

    offered: int = 0
    answered: int = 0
    waited: int = 0
    connections: int = 0
    ended_ns: int = 0


def http_message(
    path: str, body: bytes, headers: tuple[tuple[str, str], ...] = (), method: str = "POST"
) -> bytes:
    """A whole HTTP/1.1 request, ready for the wire."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def uniform(rate: float, n: int) -> I64:
    """ns offsets of n sends, evenly spaced at `rate` per second."""
    return (np.arange(n) * (1e9 / rate)).astype(np.int64)


def poisson(rate: float, n: int, seed: int) -> I64:
    """ns offsets of n sends with exponential gaps, `rate` per second on average."""
    gaps = np.random.default_rng(seed).exponential(1e9 / rate, n)
    return np.cumsum(gaps).astype(np.int64)


class OpenLoop:
    """Drives one server from one event loop with at most `connections` requests in flight."""

    def __init__(
        self,
        host: str,
        port: int,
        sends: Iterator[Send],
        sink: Sink,
        clock: Clock,
        connections: int = 256,
        drain_s: float = 5.0,
    ) -> None:
        self._address = (host, port)
        self._sends = sends
        self._sink = sink
        self._clock = clock
        self._limit = connections
        self._drain_s = drain_s
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._backlog: deque[Send] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._next: Send | None = None
        self._start_ns = 0
        self._ended = asyncio.Event()  # nothing more will come due
        self._settled = asyncio.Event()  # and everything offered is answered
        self.totals = Totals()

    async def run(self) -> Totals:
        """Returns when every send is answered, or `drain_s` after the last one came due."""
        self._timer = Timer(asyncio.get_running_loop(), self._due)
        self._start_ns = self._clock.monotonic_ns()
        try:
            self._advance()
            self._due()
            await self._ended.wait()
            self.totals.ended_ns = self._clock.monotonic_ns()
            await self._drained()
        finally:
            self._timer.close()
            await self._close()
        return self.totals

    def stop(self) -> None:
        """Nothing more is sent; `run` returns once what is in flight is answered."""
        self._next = None
        self._ended.set()

    def _advance(self) -> None:
        self._next = next(self._sends, None)

    def _due(self) -> None:
        """Hands out everything whose time has come and arms the timer for the next."""
        now = self._clock.monotonic_ns() - self._start_ns
        while self._next is not None and self._next.at_ns <= now:
            self._offer(self._next)
            self._advance()
        if self._next is None:
            self._ended.set()
        else:
            self._timer.arm(self._start_ns + self._next.at_ns)

    def _offer(self, send: Send) -> None:
        self.totals.offered += 1
        if self._idle:
            self._idle.pop().send(send)
            return
        if len(self._all) + len(self._opening) < self._limit:
            self._open()
        else:
            self.totals.waited += 1
        self._backlog.append(send)

    def _open(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Connection(self), *self._address)
        except OSError:
            if self._backlog:
                send = self._backlog.popleft()
                self.answer(send, self._clock.monotonic_ns(), NO_CONNECTION, b"", b"")
            if len(self._backlog) >= len(self._opening):
                self._open()  # what had waited for a connection must not wait for ever

    def connected(self, connection: "_Connection") -> None:
        """A connection is open: gives it the oldest waiting request."""
        self._all.add(connection)
        self.totals.connections += 1
        self.free(connection)

    def free(self, connection: "_Connection") -> None:
        """A connection can take the next request."""
        if self._backlog:
            connection.send(self._backlog.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        """A connection is gone; what waits gets a new one."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._backlog and len(self._all) + len(self._opening) < self._limit:
            self._open()

    def now_ns(self) -> int:
        """The clock that answers are stamped with."""
        return self._clock.monotonic_ns()

    def answer(self, send: Send, sent_ns: int, status: int, body: bytes, timing: bytes) -> None:
        """Tells the sink; called once for every send that was offered."""
        received_ns = self._clock.monotonic_ns()
        intended_ns = self._start_ns + send.at_ns
        self.totals.answered += 1
        self._sink(Answer(send.tag, intended_ns, sent_ns, received_ns, status, body, timing))
        if self._ended.is_set() and self.totals.answered == self.totals.offered:
            self._settled.set()

    async def _drained(self) -> None:
        if self.totals.answered == self.totals.offered:
            return
        try:
            await asyncio.wait_for(self._settled.wait(), self._drain_s)
        except TimeoutError:
            self._give_up()

    def _give_up(self) -> None:
        for connection in list(self._all):
            connection.give_up()
        while self._backlog:
            send = self._backlog.popleft()
            self.answer(send, self._clock.monotonic_ns(), UNANSWERED, b"", b"")

    async def _close(self) -> None:
        for task in list(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in list(self._all):
            connection.close()
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, owner: OpenLoop) -> None:
        self._owner = owner
        self._current: Send | None = None
        self._sent_ns = 0
        self._chunks: list[bytes] = []
        self._timing = b""
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are transports by behaviour only
        self._transport = cast(asyncio.Transport, transport)
        self._owner.connected(self)

    def send(self, send: Send) -> None:
        """Puts a request on the wire now."""
        self._current = send
        self._sent_ns = self._owner.now_ns()
        self._transport.write(send.message)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == TIMING_HEADER:
            self._timing = value

    def on_body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        keep = self._parser.should_keep_alive()
        self._finish(status, b"".join(self._chunks), self._timing)
        self._chunks, self._timing = [], b""
        if keep:
            self._owner.free(self)
        else:
            self._transport.close()

    def _finish(self, status: int, body: bytes, timing: bytes) -> None:
        send, self._current = self._current, None
        if send is not None:
            self._owner.answer(send, self._sent_ns, status, body, timing)

    def give_up(self) -> None:
        """Counts the request in flight, if there is one, as unanswered."""
        self._finish(UNANSWERED, b"", b"")

    def close(self) -> None:
        """Closes the connection; a request still on it is not reported."""
        self._current = None
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(NO_CONNECTION, b"", b"")
        self._owner.lost(self)
