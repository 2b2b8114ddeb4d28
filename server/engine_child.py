"""The process of the models: the other end of `engine_process`.

Invariant: it lives no longer than its parent, which is the only one to tell it anything: the end of
the connection is its end, also in the middle of a batch. Signals of a terminal or a service manager
are the parent's to handle. The main thread reads, one thread computes, one loads, one beats.
"""

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import cast

from predawn.server.clock import Clock, SystemClock
from predawn.server.engine import Described
from predawn.server.engine_jobs import Jobs, Outcome, Slices
from predawn.server.engine_loader import Aside, Loader
from predawn.server.engine_messages import (
    Beat,
    Drop,
    Fault,
    FromChild,
    Load,
    LoadDone,
    Logged,
    Refused,
    Restored,
    Setup,
    Started,
    ToChild,
    Turn,
    TurnDone,
    Work,
    WorkDone,
    fault_of,
)
from predawn.server.engine_recent import Recent
from predawn.server.engine_roster import Change, Roster
from predawn.server.engine_worker import Job, Worker
from predawn.server.errors import ConfigError, InferenceError, SnapshotError
from predawn.server.request import F32, Lane, PairBatch, RankBatch, UserBatch

_SWITCH_INTERVAL_S = 0.0005
_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    """descriptor: this end of the connection; the first message is `Setup`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    connection: Connection[FromChild, ToChild] = Connection(descriptor)
    setup = connection.recv()
    assert isinstance(setup, Setup)
    Child(connection, setup, SystemClock()).run()


class Child:
    """Does what the parent says; see `run`."""

    def __init__(
        self, connection: "Connection[FromChild, ToChild]", setup: Setup, clock: Clock
    ) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._setup = setup
        self._clock = clock
        self._roster = Roster()
        recent = Recent(setup.nobody, setup.batch_limit)
        self._jobs = Jobs(self._roster, recent)
        self._loader = Loader(setup.recipes, self._roster, recent, clock)
        self._worker = Worker(clock, setup.nice)
        self._aside = Aside()
        self._running: dict[int, Job] = {}

    def run(self) -> None:
        """Until the connection ends; then the process ends, whatever its threads are at."""
        logging.basicConfig(
            level=self._setup.log_level, format="%(message)s", handlers=[_Forward(self._send)]
        )
        threading.Thread(target=self._beat, name="predawn-beat", daemon=True).start()
        self._aside.run(self._start)
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            self._take(message)

    def _take(self, message: ToChild) -> None:
        match message:
            case Work(id, name, batch):
                self._submit(id, name, batch)
            case Drop(id):
                job = self._running.pop(id, None)
                if job is not None:
                    job.dropped = True
            case Load(id, name, version):
                self._aside.run(partial(self._load, id, name, version))
            case Turn(id, change, names):
                self._turn(id, change, names)
            case Setup():
                raise AssertionError("a second Setup")

    def _submit(self, id: int, name: str, batch: UserBatch | PairBatch | RankBatch) -> None:
        job = Job(*self._work(name, batch), partial(self._deliver, id))
        self._running[id] = job
        self._worker.submit(job)

    def _work(
        self, name: str, batch: UserBatch | PairBatch | RankBatch
    ) -> tuple[Lane, str, Callable[[], Outcome | Slices]]:
        match batch:
            case UserBatch():
                return Lane.WAIT, name, partial(self._jobs.embed, name, lambda: batch)
            case PairBatch():
                return Lane.SPECULATE, name, partial(self._jobs.pairs, name, lambda: batch)
            case RankBatch():
                return Lane.RANK, name, partial(self._jobs.score, name, batch)

    def _deliver(self, id: int, outcome: Outcome | InferenceError, spent_ns: int) -> None:
        self._running.pop(id, None)
        told = fault_of("", outcome) if isinstance(outcome, InferenceError) else outcome
        self._send(WorkDone(id, told, spent_ns))

    def _start(self) -> None:
        """Everything live, as it was before the process was lost; then what was beside it."""
        setup = self._setup
        try:
            described = {name: self._started(name) for name in setup.recipes}
            self._loader.all_started()
            spare_collector()
        except (Exception, SystemExit) as error:
            self._send(Refused(fault_of("", error)))
            os._exit(1)
        self._send(Started(described, self._roster.versions()))
        self._worker.start()
        if any(each.staged or each.previous for each in setup.versions.values()):
            self._restore()

    def _started(self, name: str) -> Described:
        """As it was; the newest version instead where that one is no more on the disk, if it does
        what the server was built for."""
        before = self._setup.described.get(name)
        version, matrix = _place(self._setup, name)
        try:
            return self._loader.start(name, version, matrix)
        except SnapshotError:
            if before is None:
                raise
            logging.exception("version %d of model %r is lost: trying the newest", version, name)
        described = self._loader.start(name)
        if replace(described, version=before.version) != before:
            reason = f"version {described.version} does not do what the lost one did"
            raise ConfigError(self._setup.recipes[name].source.setting, reason)
        return described

    def _restore(self) -> None:
        places = {"staged": self._roster.stage, "previous": self._roster.keep}
        for name, versions in self._setup.versions.items():
            for field, place in places.items():
                version = cast("int | None", getattr(versions, field))
                if version is None:
                    continue
                matrix = self._setup.matrices.get((name, version))
                try:
                    self._loader.restore(name, version, matrix, place)
                except (Exception, SystemExit):
                    logging.exception("version %d of model %r is lost", version, name)
        self._send(Restored(self._roster.versions()))

    def _load(self, id: int, name: str, version: int | None) -> None:
        try:
            loaded, matrix = self._loader.load(name, version)
            done = LoadDone(id, loaded, matrix, self._roster.versions())
        except (Exception, SystemExit) as error:
            done = LoadDone(id, fault_of(name, error), None, self._roster.versions())
        self._send(done)

    def _turn(self, id: int, change: Change, names: tuple[str, ...]) -> None:
        outcome: dict[str, int] | Fault
        try:
            outcome = self._roster.change(change, names)
        except Exception as error:
            outcome = fault_of(names[0], error)
        self._aside.run(self._roster.forget)
        self._send(TurnDone(id, outcome, self._roster.versions()))

    def _beat(self) -> None:
        never = threading.Event()
        while not never.wait(self._setup.beat_s):
            since_ns = self._worker.busy_since_ns
            busy_ns = self._clock.monotonic_ns() - since_ns if since_ns else 0
            self._send(Beat(busy_ns, self._loader.compiles(), self._roster.kept()))

    def _send(self, message: FromChild) -> None:
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(0)


class _Forward(logging.Handler):
    """Log lines go to the parent, which has the format."""

    def __init__(self, send: Callable[[FromChild], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Logged(record.name, record.levelno, self.format(record)))


def _place(setup: Setup, name: str) -> tuple[int | None, F32 | None]:
    """Version and matrix that were live before; the newest version at the first start."""
    before = setup.versions.get(name)
    if before is None:
        return None, None
    return before.live, setup.matrices.get((name, before.live))


def spare_collector() -> None:
    """What is there now stays, so the garbage collector looks through it no more. A full collection
    in a process with torch (183,000 objects) stopped all its threads for 80 to 117 ms, then for
    less than .1 ms. Models dropped later are freed as before, unless they hold themselves."""
    gc.collect()
    gc.freeze()


def _die_with_parent() -> None:
    """Also when the interpreter is stuck in a model's native code, where no end of a connection is
    read (Linux; elsewhere the connection must do)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
