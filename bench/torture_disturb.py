"""Kills and stops at random moments, and what must go on meanwhile.

Invariant: who is stopped is let go on, killed, or still stopped when `disturb` returns; everybody
else runs. All choices come from one seeded generator.
"""

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from predawn.bench.torture_crew import Crew
from predawn.bench.torture_tally import Tally
from predawn.csrc import _torture

Event = tuple[float, int, Literal["kill", "stop", "go on", "plant"], tuple[int, ...]]

_KILLS_PER_S = 4.0
_STOPS_PER_S = 6.0
_LONG_STOP_S = 1.0  # in which everybody who runs must have done something
_WINDOW_S = 0.05  # before and after a kill among bystanders
_SETTLE_S = 0.15
_PLANT_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class Watched:
    """Who ran when a stop began, how far each was, and how often it had been disturbed by then."""

    since: float
    running: list[int]
    beats: list[int]
    changes: list[int]


class Disturber:
    """plant: damage to do to the store all the time; empty: none."""

    def __init__(
        self,
        crew: Crew,
        supervisor: _torture.Supervisor,
        random: Random,
        tally: Tally,
        plant: str = "",
    ) -> None:
        self._crew = crew
        self._supervisor = supervisor
        self._random = random
        self._tally = tally
        self._events: list[Event] = []
        self._count = 0
        self._plant_kind = plant
        self._changes = [0] * _torture.WORKERS  # of a worker's state
        self._watched: dict[int, Watched] = {}  # from the event that ends a stop

    def disturb(self, until: float, told: Callable[[], None]) -> None:
        """Until that time (monotonic). told: is called often."""
        self._events = []
        self._watched = {}
        now = time.monotonic()
        self._plan("kill", now + self._after(_KILLS_PER_S))
        self._plan("stop", now + self._after(_STOPS_PER_S))
        if self._plant_kind:
            self._plan("plant", now)
        while self._events and self._events[0][0] < until:
            at, number, kind, workers = heapq.heappop(self._events)
            time.sleep(max(0.0, at - time.monotonic()))
            told()
            self._do(kind, number, workers)
        time.sleep(max(0.0, until - time.monotonic()))
        self._crew.look_for_dead()

    def watch_bystanders(self, until: float, told: Callable[[], None]) -> None:
        """Kills one after another, and measures the longest batches of the others around it."""
        while time.monotonic() < until:
            told()
            victim = self._random.choice(self._crew.living())
            others = [i for i in self._crew.living() if i != victim]
            self._supervisor.take_longest_ns()
            time.sleep(_WINDOW_S)
            before = self._supervisor.take_longest_ns()
            self._crew.kill(victim)
            self._tally.kills += 1
            time.sleep(_WINDOW_S)
            after = self._supervisor.take_longest_ns()
            self._tally.before_ms.append(max(before[i] for i in others) / 1e6)
            self._tally.after_ms.append(max(after[i] for i in others) / 1e6)
            self._crew.start([victim])
            self._crew.await_start([victim])
            time.sleep(_SETTLE_S)

    def _after(self, per_s: float) -> float:
        return self._random.expovariate(per_s)

    def _plan(
        self, kind: Literal["kill", "stop", "go on", "plant"], at: float, *workers: int
    ) -> int:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, kind, workers))
        return self._count

    def _do(self, kind: str, number: int, workers: tuple[int, ...]) -> None:
        now = time.monotonic()
        if kind == "kill":
            self._kill()
            self._plan("kill", now + self._after(_KILLS_PER_S))
        elif kind == "stop":
            self._stop()
            self._plan("stop", now + self._after(_STOPS_PER_S))
        elif kind == "plant":
            self._supervisor.plant(self._plant_kind)
            self._plan("plant", now + _PLANT_EVERY_S)
        else:
            self._go_on(number, workers)

    def _kill(self) -> None:
        stopped = sorted(self._crew.stopped)
        is_stopped = bool(stopped) and self._random.random() < 0.4
        victim = self._random.choice(stopped if is_stopped else self._crew.living())
        self._tally.kills += 1
        self._tally.kills_while_stopped += victim in self._crew.stopped
        self._tally.kills_while_starting += not self._supervisor.attached()[victim]
        self._crew.kill(victim)
        self._changes[victim] += 1
        self._crew.start([victim])

    def _stop(self) -> None:
        running = self._crew.running()
        if not running:
            return
        is_all = self._random.random() < 0.1
        chosen = running if is_all else [self._random.choice(running)]
        for worker in chosen:
            self._crew.stop(worker)
            self._changes[worker] += 1
        self._tally.stops += len(chosen)
        self._put_beside()
        number = self._plan("go on", time.monotonic() + self._length_s(), *chosen)
        self._watched[number] = self.watch()

    def watch(self) -> Watched:
        """Who runs now, to be compared later."""
        attached = self._supervisor.attached()
        running = [worker for worker in self._crew.running() if attached[worker]]
        return Watched(time.monotonic(), running, self._supervisor.beats(), list(self._changes))

    def _length_s(self) -> float:
        kind = self._random.random()
        if kind < 0.7:
            return self._random.uniform(0.001, 0.02)
        return self._random.uniform(0.05, 0.3) if kind < 0.95 else _LONG_STOP_S

    def _go_on(self, number: int, workers: tuple[int, ...]) -> None:
        self._put_beside()
        self.look_for_stalled(self._watched.pop(number))
        for worker in workers:
            self._crew.go_on(worker)
            self._changes[worker] += 1

    def look_for_stalled(self, then: Watched) -> None:
        """Counts who ran all the time since and did nothing, if that was long ago."""
        if time.monotonic() - then.since < _LONG_STOP_S:
            return
        beats = self._supervisor.beats()
        for worker in then.running:
            was_left_alone = then.changes[worker] == self._changes[worker]
            self._tally.stalled += was_left_alone and beats[worker] == then.beats[worker]

    def _put_beside(self) -> None:
        claims, puts, _ = self._supervisor.put_beside(sorted(self._crew.stopped))
        self._tally.claims_of_stopped += claims
        self._tally.puts_beside_stopped += puts
