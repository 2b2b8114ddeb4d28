"""The load generator is honest: its schedule holds, and every send is accounted for once."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import uvloop

from predawn.bench import load
from predawn.bench.bodies import rank_body
from predawn.bench.echo import serve_protocol
from predawn.bench.recorder import Recorder
from predawn.server.clock import SystemClock
from predawn.server.request import I64

MESSAGE = load.http_message("/v1/rank", rank_body(8))


def _sends(at_ns: I64) -> Iterator[load.Send]:
    return (load.Send(int(at), MESSAGE, i) for i, at in enumerate(at_ns))


@dataclass
class Outcome:
    recorder: Recorder = field(default_factory=Recorder)
    totals: load.Totals = field(default_factory=load.Totals)


def _against_echo(
    at_ns: I64, stall: tuple[int, int] = (0, 0), connections: int = 64, drain_s: float = 5.0
) -> Outcome:
    outcome = Outcome()

    async def run() -> None:
        server = await serve_protocol(0, 100, stall)
        port = server.sockets[0].getsockname()[1]
        sends, clock = _sends(at_ns), SystemClock()
        open_loop = load.OpenLoop(
            "127.0.0.1", port, sends, outcome.recorder, clock, connections, drain_s
        )
        outcome.totals = await open_loop.run()
        server.close()
        await server.wait_closed()

    uvloop.run(run())
    return outcome


def test_every_send_is_answered_once() -> None:
    outcome = _against_echo(load.poisson(1000, 300, seed=1))
    assert outcome.totals.offered == outcome.totals.answered == 300
    assert sorted(outcome.recorder.tags) == list(range(300))
    assert outcome.recorder.errors() == {}


def test_nothing_leaves_before_its_time() -> None:
    outcome = _against_echo(load.uniform(500, 100))
    lag = np.array(outcome.recorder.sent) - np.array(outcome.recorder.intended)
    assert (lag >= 0).all()
    assert (np.diff(outcome.recorder.intended) > 0).any()


def test_latency_counts_from_the_intended_time_when_the_server_stalls() -> None:
    """One connection, every 50th reply held for 100 ms: what queues behind it must show it."""
    outcome = _against_echo(load.uniform(500, 100), stall=(50, 100), connections=1)
    latencies_ms = outcome.recorder.latencies_ns() / 1e6
    assert len(latencies_ms) == 100
    # the stalled one and the ~50 that came due meanwhile: 100, 98, 96, ... ms
    assert (latencies_ms > 50).sum() >= 20
    assert outcome.totals.waited >= 20
    served = np.array(outcome.recorder.received) - np.array(outcome.recorder.sent)
    assert (served / 1e6 > 50).sum() < (latencies_ms > 50).sum()


def test_a_stalling_server_does_not_slow_the_schedule() -> None:
    outcome = _against_echo(load.uniform(500, 100), stall=(10, 100), connections=64)
    sent = np.sort(np.array(outcome.recorder.sent))
    assert outcome.totals.waited == 0
    assert sent[-1] - sent[0] < 1e9  # 100 sends at 500 rps are 0.2 s; stalls alone are 1 s


def test_silence_is_counted_as_unanswered() -> None:
    """One connection: the fifth gets no reply, and the five behind it never leave."""
    at_ns = load.uniform(1000, 10)
    outcome = _against_echo(at_ns, stall=(5, 60_000), connections=1, drain_s=0.1)
    assert outcome.recorder.errors() == {load.UNANSWERED: 6}
    assert outcome.totals.answered == 10


@pytest.mark.parametrize(
    ("at_ns", "connections"), [(load.uniform(1000, 20), 64), (np.zeros(20, np.int64), 1)]
)
def test_a_refused_connection_is_counted(at_ns: I64, connections: int) -> None:
    async def run() -> Recorder:
        server = await serve_protocol(0, 100)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        recorder = Recorder()
        sends, clock = _sends(at_ns), SystemClock()
        await load.OpenLoop("127.0.0.1", port, sends, recorder, clock, connections).run()
        return recorder

    assert uvloop.run(run()).errors() == {load.NO_CONNECTION: 20}


def test_stop_ends_an_endless_schedule() -> None:
    def endless() -> Iterator[load.Send]:
        at_ns = 0
        while True:
            yield load.Send(at_ns, MESSAGE, 0)
            at_ns += 1_000_000

    async def run() -> load.Totals:
        server = await serve_protocol(0, 100)
        port = server.sockets[0].getsockname()[1]
        recorder = Recorder()
        open_loop = load.OpenLoop("127.0.0.1", port, endless(), recorder, SystemClock())
        asyncio.get_running_loop().call_later(0.1, open_loop.stop)
        totals = await open_loop.run()
        server.close()
        await server.wait_closed()
        return totals

    totals = uvloop.run(run())
    assert totals.answered == totals.offered > 10


@pytest.mark.parametrize("seed", [1, 2])
def test_poisson_has_the_rate_asked_for(seed: int) -> None:
    at_ns = load.poisson(2000, 20_000, seed)
    assert (np.diff(at_ns) >= 0).all()
    assert 20_000 / (at_ns[-1] / 1e9) == pytest.approx(2000, rel=0.05)
    assert np.array_equal(at_ns, load.poisson(2000, 20_000, seed))


def test_uniform_is_evenly_spaced() -> None:
    assert load.uniform(1000, 4).tolist() == [0, 1_000_000, 2_000_000, 3_000_000]


def test_http_message_is_whole() -> None:
    message = load.http_message("/v1/x", b"{}", (("x-predawn-timing", "1"),))
    head, _, body = message.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert b"Content-Length: 2" in head and b"x-predawn-timing: 1" in head
    assert body == b"{}"
