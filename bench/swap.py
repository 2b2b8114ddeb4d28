"""Versions of models changed under load, on a real server: what do the requests notice?

Requests come at a steady rate (open loop) and every user is recomputed behind its request, while a
second version is loaded, swapped in, rolled back and swapped in again, round after round. A change
is held against the seconds right before it: p99 of the second that begins with it (for a load: of
as long as it takes, a second at least) over the median of theirs. No request may fail.
"""

import math
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

import numpy as np
import orjson

from predawn.bench import harness, load, rig
from predawn.bench.bodies import rank_body
from predawn.bench.child import Child, free_port
from predawn.bench.harness import BenchError, Effort, Row, Stamp
from predawn.bench.load import Send
from predawn.bench.prepare import SMALL, prepare, state_dir
from predawn.bench.recorder import OK, Recorder
from predawn.server.clock import SystemClock
from predawn.server.models.snapshots import load_snapshot, write_snapshot

ISOLATIONS = ("thread", "process")
_SECOND_NS = 1_000_000_000
_ROUND = ("load", "swap", "rollback", "swap")
_LOAD_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. rate: requests per second; pause_s: before every change; before_s: seconds right
    before a change that it is held against; users, items: of the requests."""

    rate: float
    rounds: int
    pause_s: float
    before_s: int
    users: int
    items: int


FULL = Plan(400, rounds=5, pause_s=5.0, before_s=4, users=512, items=100)
SMOKE = Plan(100, rounds=1, pause_s=0.4, before_s=1, users=16, items=8)


@dataclass(frozen=True, slots=True)
class Change:
    """One change, with its times on the monotonic clock."""

    what: str
    began_ns: int
    ended_ns: int

    @property
    def took_ms(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e6


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """A case for each place where models can run."""
    plan = SMOKE if smoke else FULL
    trained = prepare(SMALL, state_dir() / "models", lambda stage, share: None).snapshot
    rows: list[Row] = []
    for at, isolation in enumerate(ISOLATIONS):
        effort.progress(at / len(ISOLATIONS))
        case = f"models in a {isolation}"
        if effort.wants(case):
            with tempfile.TemporaryDirectory(prefix="predawn-") as folder:
                rows += _case(mark, case, plan, trained, isolation, Path(folder))
    return rows


def _case(
    mark: Stamp, case: str, plan: Plan, trained: Path, isolation: str, folder: Path
) -> list[Row]:
    snapshots = folder / "snapshots"
    write_again(trained, snapshots)
    model: dict[str, object] = {"mode": "soap", "direct_ttl": 0, "average_over": 3}
    settings = rig.reference_settings(folder, free_port(), snapshots, model)
    settings["engine"] = {"isolation": isolation}
    with rig.running(settings, folder) as child:
        write_again(snapshots, snapshots)
        recorder, changes = _driven(child, plan)
    return list(_rows(mark, case, plan, recorder, changes))


def write_again(source: Path, out: Path) -> Path:
    """Writes the newest version below `source` as the next one below `out`; its directory."""
    newest = load_snapshot(source)
    files = {name: newest.read(name) for name in newest.sizes}
    return write_snapshot(out, files, newest.meta)


def _driven(child: Child, plan: Plan) -> tuple[Recorder, list[Change]]:
    """The load, with the changes in the middle of it."""
    messages = [
        load.http_message("/v1/rank", rank_body(plan.items, user)) for user in range(plan.users)
    ]
    rig.drive(child, messages, load.uniform(plan.rate, round(plan.rate * plan.pause_s)))  # warm-up
    recorder, operator = Recorder(), Operator(child, plan.rounds, plan.pause_s)
    sends = (
        Send(round(at * _SECOND_NS / plan.rate), messages[at % plan.users], at) for at in count()
    )
    operator.start()
    try:
        rig.drive_sends(child.port, takewhile(lambda send: operator.at_work, sends), recorder)
    finally:
        changes = operator.ended()
    return recorder, changes


class Operator:
    """Changes versions at a steady pace, from a thread: loads the one that does not serve, swaps,
    rolls back, swaps again."""

    def __init__(self, child: Child, rounds: int, pause_s: float) -> None:
        self._child = child
        self._rounds = rounds
        self._pause_s = pause_s
        self._clock = SystemClock()
        self._stop = threading.Event()
        self._changes: list[Change] = []
        self._failed = ""
        self._thread = threading.Thread(target=self._work, daemon=True)

    @property
    def at_work(self) -> bool:
        """Changes are still to come, or the pause after the last one is not over."""
        return self._thread.is_alive()

    def start(self) -> None:
        """The first change comes after a pause, and a pause after the last."""
        self._thread.start()

    def ended(self) -> list[Change]:
        """All changes; no more are made. BenchError when one was refused."""
        self._stop.set()
        self._thread.join()
        if self._failed:
            raise BenchError(f"swap: {self._failed}")
        return self._changes

    def _work(self) -> None:
        steps = [
            (what, {"version": 2 - number % 2} if what == "load" else {})
            for number in range(self._rounds)
            for what in _ROUND
        ]
        for what, body in steps:
            if self._stop.wait(self._pause_s) or not self._change(what, body):
                return
        self._stop.wait(max(self._pause_s, 1.0))

    def _change(self, what: str, body: dict[str, int]) -> bool:
        began_ns = self._clock.monotonic_ns()
        status, told = self._child.request(
            "POST", f"/v1/models/{what}", orjson.dumps(body), _LOAD_TIMEOUT_S
        )
        self._changes.append(Change(what, began_ns, self._clock.monotonic_ns()))
        if status != OK:
            self._failed = f"{what} was answered {status}: {told.decode(errors='replace')}"
        return status == OK


def _rows(
    mark: Stamp, case: str, plan: Plan, recorder: Recorder, changes: Sequence[Change]
) -> Iterator[Row]:
    n = len(recorder)
    yield mark.row(case, "errors", sum(recorder.errors().values()), "requests", n=n)
    yield mark.row(case, "degraded", recorder.degraded / n, "share", n=n)
    quiet = [p99 for each in changes for p99 in before_ms(recorder, each, plan.before_s)]
    yield mark.row(case, "p99_quiet", float(np.median(quiet)), "ms", n=len(quiet))
    yield mark.row(case, "p99_quiet_spread", harness.spread(quiet), "share")
    before_s = max(1, plan.before_s - 1)
    ratios = [over_before(recorder, _nothing(each), before_s) for each in changes]
    nothing = [ratio for ratio in ratios if math.isfinite(ratio)]  # else the load had not begun
    middle = float(np.median(nothing))
    yield mark.row(case, "p99_nothing_over_before", middle, "x", n=len(nothing))
    yield mark.row(case, "p99_nothing_over_before_worst", max(nothing), "x", n=len(nothing))
    for what in dict.fromkeys(_ROUND):
        chosen = [each for each in changes if each.what == what]
        ratios = [over_before(recorder, each, plan.before_s) for each in chosen]
        name, middle = f"p99_{what}_over_before", float(np.median(ratios))
        yield mark.row(case, name, middle, "x", n=len(chosen))
        yield mark.row(case, f"{name}_worst", max(ratios), "x", n=len(chosen))
        took = float(np.median([each.took_ms for each in chosen]))
        yield mark.row(case, f"{what}_takes", took, "ms", n=len(chosen))


def _nothing(change: Change) -> Change:
    """A second before a change: what a ratio is when nothing happens."""
    began_ns = change.began_ns - _SECOND_NS
    return Change("nothing", began_ns, began_ns)


def over_before(recorder: Recorder, change: Change, before_s: int) -> float:
    """p99 of the change over the median p99 of the seconds before it."""
    until_ns = change.began_ns + _SECOND_NS
    if change.what == "load":
        until_ns = max(until_ns, change.ended_ns)
    during = p99_ms(recorder, change.began_ns, until_ns)
    return during / float(np.median(before_ms(recorder, change, before_s)))


def before_ms(recorder: Recorder, change: Change, before_s: int) -> list[float]:
    """p99 in ms of each of the seconds right before a change, the nearest first."""
    ends = [change.began_ns - back * _SECOND_NS for back in range(before_s)]
    return [p99_ms(recorder, end - _SECOND_NS, end) for end in ends]


def p99_ms(recorder: Recorder, since_ns: int, until_ns: int) -> float:
    """p99 of the requests that were to be sent in a span of time; NaN when there were none."""
    intended = np.array(recorder.intended, np.int64)
    took = np.array(recorder.received, np.int64) - intended
    chosen = took[(since_ns <= intended) & (intended < until_ns) & recorder.ok]
    return float(np.quantile(chosen, 0.99)) / 1e6 if len(chosen) else float("nan")
