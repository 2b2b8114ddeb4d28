"""A predawn server under test: a config as a plain dict, a process, and the load that drives it."""

import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from predawn.bench import machine, scrape
from predawn.bench.child import Child, ChildDied, free_port
from predawn.bench.load import OpenLoop, Send, Sink, Totals
from predawn.bench.recorder import Recorder
from predawn.server.clock import SystemClock
from predawn.server.request import I64

Settings = dict[str, Any]
READY_S = 60.0
"""Longest start of a server: on a cold disk the import of torch alone takes many seconds."""

_POLL_S = 0.05

PATIENCE = "1s"
"""Deadline of requests: above any pause of a machine, so that what is slow is measured and not
refused."""

BARE_USER_MODEL = "predawn.bench.fault_models:user_model"
BARE_RANKER = "predawn.bench.fault_models:ranker"


def bare_settings(
    folder: Path, port: int, *, mode: str = "soap", options: Mapping[str, object] | None = None
) -> Settings:
    """A server with models that cost nothing: what is left is predawn itself."""
    model = {"factory": BARE_USER_MODEL, "mode": mode, "options": dict(options or {})}
    return {
        "http": {"port": port, "timeout": PATIENCE},
        "store": {"capacity": 100_000},
        "history": {"path": str(folder / "history")},
        "models": {"user": model},
        "rankers": {"main": {"factory": BARE_RANKER, "user_models": ["user"]}},
    }


def reference_settings(
    folder: Path,
    port: int,
    snapshot: Path,
    model: Mapping[str, object],
    rankers: Sequence[str] = ("main",),
) -> Settings:
    """A server with the models in `snapshot`, read by `rankers`; model: settings such as mode."""
    trained = {"snapshot": str(snapshot)}
    return {
        "http": {"port": port, "timeout": PATIENCE},
        "store": {"capacity": 100_000},
        "history": {"path": str(folder / "history")},
        "models": {"sum": {**trained, **model}},
        "rankers": {name: {**trained, "user_models": ["sum"]} for name in rankers},
    }


def toml(settings: Settings, prefix: str = "") -> str:
    """The settings as TOML: plain values first, then a table per nested dict."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in settings.items():
        if isinstance(value, dict):
            name = f"{prefix}{key}"
            lines += ["", f"[{name}]", toml(value, f"{name}.")]
    return "\n".join(lines)


def start(settings: Settings, folder: Path) -> Child:
    """Starts `predawn serve` on `settings`; its config and log are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "predawn.toml"
    config.write_text(toml(settings) + "\n", encoding="utf-8")
    arguments = ["-m", "predawn.server", "serve", "--config", str(config)]
    return Child(arguments, settings["http"]["port"], folder / "server.log")


@contextmanager
def running(settings: Settings, folder: Path) -> Generator[Child, None, None]:
    """A server that is ready, stopped at the end; ChildDied says why it does not start."""
    with start(settings, folder) as child:
        wait_ready(child)
        yield child


def wait_ready(child: Child) -> None:
    """Until the server serves and its models are loaded: it answers without them before."""
    child.wait_ready("/readyz", READY_S)
    end_s = time.perf_counter() + READY_S
    while not json.loads(child.get("/info")[1])["metrics"]["engine_ready"]:
        if time.perf_counter() > end_s:
            raise ChildDied(f"{child}: no models in {READY_S:.0f} s:\n{child.last_words()}")
        time.sleep(_POLL_S)


@contextmanager
def bare(folder: Path, *, mode: str = "soap", **options: object) -> Generator[Child, None, None]:
    """A running server with the models of `bare_settings`."""
    with running(bare_settings(folder, free_port(), mode=mode, options=options), folder) as child:
        yield child


def metrics(child: Child) -> scrape.Scrape:
    """The server's metrics now."""
    return scrape.parse(child.get("/metrics")[1])


@dataclass(frozen=True, slots=True)
class Drive:
    """What a load did and what it cost. cpu_ns: of the server process meanwhile."""

    recorder: Recorder
    totals: Totals
    cpu_ns: int
    wall_s: float

    @property
    def cpu_us_per_request(self) -> float:
        return self.cpu_ns / max(self.totals.answered, 1) / 1e3


def drive(child: Child, messages: Sequence[bytes], at_ns: I64, connections: int = 64) -> Drive:
    """Sends message i (round and round) at `at_ns[i]`, open loop, and waits for the answers."""
    recorder = Recorder()
    count = len(messages)
    sends = (Send(int(at), messages[i % count], i) for i, at in enumerate(at_ns))
    return _timed(child, sends, recorder, connections)


def _timed(child: Child, sends: Iterator[Send], recorder: Recorder, connections: int) -> Drive:
    before, start_ns = machine.cpu_ns(child.pid), time.perf_counter_ns()
    totals = drive_sends(child.port, sends, recorder, connections)
    wall_s = (time.perf_counter_ns() - start_ns) / 1e9
    return Drive(recorder, totals, machine.cpu_ns(child.pid) - before, wall_s)


def drive_sends(
    port: int,
    sends: Iterator[Send],
    sink: Sink,
    connections: int = 64,
    host: str = "127.0.0.1",
) -> Totals:
    """Runs an open-loop load on an event loop of its own."""

    async def run() -> Totals:
        return await OpenLoop(host, port, sends, sink, SystemClock(), connections).run()

    return uvloop.run(run())
