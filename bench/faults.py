"""What is promised when things break, tried on a real server: a hung engine, and kill -9.

Hung engine: a user model that never returns, in the mode in which requests wait for it; every
request has to be answered within its deadline all the same. The models' process killed: the same,
and it has to come back by itself. kill -9 of the server: the history is opened after the kill and
searched for every event that had been acknowledged.
"""

import contextlib
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from predawn.bench import load, rig
from predawn.bench.bodies import events_body
from predawn.bench.child import Child, free_port
from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.load import Answer, Send
from predawn.bench.recorder import OK, Recorder
from predawn.server.clock import SystemClock
from predawn.server.history import History

_TYPES = ("shown", "clicked", "liked", "hated", "long_view")
_ITEMS = 50
_EVENTS = 4  # in a request


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. hang_s: in the middle of the load; timeout_ms: the deadline of every request."""

    rate: float
    before_s: float
    hang_s: float
    after_s: float
    timeout_ms: int
    users: int
    kill_after_s: float

    @property
    def seconds(self) -> float:
        return self.before_s + self.hang_s + self.after_s


FULL = Plan(200, before_s=5, hang_s=10, after_s=5, timeout_ms=200, users=2_000, kill_after_s=5)
SMOKE = Plan(100, before_s=0.4, hang_s=1.0, after_s=0.6, timeout_ms=2_000, users=50, kill_after_s=1)


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """All faults; the values of `answered_in_time` and `acknowledged_found` have to be 1."""
    plan = SMOKE if smoke else FULL
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder:
        return [
            *_hung(mark, plan, Path(folder)),
            *_bereft(mark, plan, Path(folder)),
            *_killed(mark, plan, Path(folder)),
        ]


def _hung(mark: Stamp, plan: Plan, folder: Path) -> list[Row]:
    flag = folder / "hang"
    with rig.running(_waiting(folder, "hang_flag", flag), folder / "hung") as child:
        recorder = _load_with_flag(child, plan, flag)
    return list(_fault_rows(mark, f"engine hangs for {plan.hang_s:g} s", plan, recorder))


def _bereft(mark: Stamp, plan: Plan, folder: Path) -> list[Row]:
    """The models' process is killed in the middle of a batch."""
    flag, case = folder / "die", "models' process killed"
    settings = _waiting(folder, "die_flag", flag)
    settings["engine"] = {"isolation": "process"}
    with rig.running(settings, folder / "bereft") as child:
        recorder = _load_with_flag(child, plan, flag)
        rig.wait_ready(child)
        restarts = rig.metrics(child).total("predawn_engine_restarts_total")
    found = list(_fault_rows(mark, case, plan, recorder))
    return [*found, mark.row(case, "restarts", restarts, "times", n=1)]


def _waiting(folder: Path, option: str, flag: Path) -> rig.Settings:
    """A server whose requests wait for a user model, which does its worst when `flag` is there."""
    options = {option: str(flag), "cost_ms": 2.0}
    settings = rig.bare_settings(folder, free_port(), mode="ercache", options=options)
    settings["models"]["user"] |= {"direct_ttl": "200ms", "failover_ttl": "1h", "wait": "100ms"}
    return settings


def _load_with_flag(child: Child, plan: Plan, flag: Path) -> Recorder:
    at_ns = load.uniform(plan.rate, round(plan.rate * plan.seconds))
    rng = np.random.default_rng(5)
    users: list[int] = rng.integers(1, plan.users, len(at_ns)).tolist()
    sends = (
        Send(int(at), _rank(user, plan.timeout_ms), i)
        for i, (at, user) in enumerate(zip(at_ns, users, strict=True))
    )
    timers = [
        threading.Timer(plan.before_s, flag.touch),
        threading.Timer(plan.before_s + plan.hang_s, flag.unlink, kwargs={"missing_ok": True}),
    ]
    recorder = Recorder()
    for timer in timers:
        timer.start()
    try:
        rig.drive_sends(child.port, sends, recorder)
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
        flag.unlink(missing_ok=True)
    return recorder


def _rank(user: int, timeout_ms: int) -> bytes:
    items = [user * 1000 + i for i in range(_ITEMS)]
    body = {"user": user, "items": items, "timeout_ms": timeout_ms}
    return load.http_message("/v1/rank", orjson.dumps(body))


def _fault_rows(mark: Stamp, case: str, plan: Plan, recorder: Recorder) -> Iterator[Row]:
    n = len(recorder)
    took_ms = (np.array(recorder.received) - np.array(recorder.intended)) / 1e6
    in_time = recorder.ok & (took_ms <= plan.timeout_ms)
    errors = recorder.errors()
    for metric, value, limit in (
        ("answered_in_time", float(in_time.mean()), 1.0),
        ("answered", float(recorder.ok.mean()), 1.0),
    ):
        yield mark.row(case, metric, value, "share", "higher", limit=limit, n=n)
    failed = sum(count for status, count in errors.items() if status >= 500 or status <= 0)
    yield mark.row(case, "server_errors", failed, "requests", n=n)
    yield mark.row(case, "degraded", recorder.degraded / n, "share", n=n)
    yield mark.row(case, "p99", recorder.quantile_ms(0.99), "ms", n=n)
    yield mark.row(case, "slowest", float(took_ms.max()), "ms", n=n)


@dataclass(slots=True)
class _Acknowledged:
    """A sink that remembers which event requests were acknowledged. tag i: request i's events."""

    users: list[int]
    counts: Counter[int] = field(default_factory=Counter[int])
    newest: dict[int, int] = field(default_factory=dict[int, int])
    refused: int = 0

    def __call__(self, answer: Answer) -> None:
        if answer.status // 100 != OK // 100:
            self.refused += 1
            return
        user = self.users[answer.tag]
        self.counts[user] += _EVENTS
        self.newest[user] = max(self.newest.get(user, 0), answer.tag)


def _killed(mark: Stamp, plan: Plan, folder: Path) -> list[Row]:
    settings = rig.bare_settings(folder, free_port())
    with rig.running(settings, folder / "killed") as child:
        acknowledged = _events_until_killed(child, plan)
    found = _found(settings["history"], acknowledged)
    with rig.running(settings, folder / "again") as child:  # and the server starts on it again
        ready = child.get("/readyz")[0] == OK
    total = sum(acknowledged.counts.values())
    case = "kill -9 under event load"
    share = found / total if total else float("nan")
    return [
        mark.row(case, "acknowledged_found", share, "share", "higher", limit=1.0, n=total),
        mark.row(case, "events_acknowledged", total, "events", "higher", n=total),
        mark.row(case, "starts_again", float(ready), "share", "higher", limit=1.0, n=1),
    ]


def _events_until_killed(child: Child, plan: Plan) -> _Acknowledged:
    """Sends events at five times the rate and kills the server in the middle of it."""
    at_ns = load.poisson(plan.rate * 5, round(plan.rate * 5 * plan.kill_after_s * 1.2), seed=6)
    users: list[int] = np.random.default_rng(7).integers(1, plan.users, len(at_ns)).tolist()
    acknowledged = _Acknowledged(users)
    start_ms = SystemClock().wall_ms()
    sends = (
        Send(int(at), load.http_message("/v1/events", _events(users[i], i, start_ms)), i)
        for i, at in enumerate(at_ns)
    )
    killer = threading.Timer(plan.kill_after_s, child.kill)
    killer.start()
    try:
        rig.drive_sends(child.port, sends, acknowledged)
    finally:
        killer.join()
    return acknowledged


def _events(user: int, number: int, start_ms: int) -> bytes:
    """Request `number`: its items are number * _EVENTS + 0, 1, ..., its time grows with it."""
    items = [number * _EVENTS + i + 1 for i in range(_EVENTS)]
    return events_body(user, items, "shown", start_ms + number)


def _found(config: dict[str, Any], acknowledged: _Acknowledged) -> int:
    """Acknowledged events that the store on disk has: the count per user, and the newest items."""
    history = History(config["path"], _TYPES, (), 32, SystemClock())
    history.open()
    with contextlib.closing(history):
        users = list(acknowledged.counts)
        batch = history.gather(users)
    found = 0
    for row, user in enumerate(users):
        items = set(batch.items[row].tolist())
        newest = acknowledged.newest[user] * _EVENTS
        whole = all(newest + i + 1 in items for i in range(_EVENTS))
        kept = min(int(batch.counts[row, 0]), acknowledged.counts[user])
        found += kept if whole else min(kept, acknowledged.counts[user] - _EVENTS)
    return found
