"""The process of the models, spoken to over its connection by nobody but this test."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import engine_cases as cases
from engine_cases import NOBODY, histories, publish, ranking, recipe

from predawn.server.engine import ModelVersions
from predawn.server.engine_messages import (
    Beat,
    Drop,
    Fault,
    Load,
    LoadDone,
    Logged,
    Refused,
    Restored,
    Setup,
    Started,
    Turn,
    TurnDone,
    Work,
    WorkDone,
)
from predawn.server.models.loading import Recipe

PROGRAM = (
    "import sys; sys.path[:0] = sys.argv[2:]; "
    "from predawn.server.engine_child import main; main(int(sys.argv[1]))"
)


class Spoken:
    def __init__(self, connection: "Connection[Any, Any]", process: "subprocess.Popen[bytes]"):
        self.connection, self.process = connection, process

    def next(self, kind: type[Any]) -> Any:
        """The next message of that kind; beats, which come when they come, are passed over."""
        while True:
            assert self.connection.poll(10)
            message = self.connection.recv()
            if isinstance(message, kind):
                return message
            assert isinstance(message, Beat | Logged | Started), message


@contextmanager
def spoken(recipes: dict[str, Recipe], **setup: Any) -> Generator[Spoken]:
    ours, theirs = Pipe()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(theirs.fileno()), *sys.path],
                pass_fds=(theirs.fileno(),),
            )
        ours.send(Setup(recipes, NOBODY, 8, 0, 0.01, 30, **setup))
        with process:
            try:
                yield Spoken(ours, process)
            finally:
                process.kill()


def test_it_starts_works_beats_and_ends_with_the_connection() -> None:
    with spoken({"m": recipe("user", "scaled"), "fm": recipe("pair", "sums")}) as child:
        child.connection.send(Work(1, "m", histories([3])))
        started = child.next(Started)
        assert started.versions == {"m": ModelVersions(0), "fm": ModelVersions(0)}
        done = child.next(WorkDone)
        assert done.id == 1 and done.outcome.rows[0].tolist() == [3, child.process.pid]
        assert child.next(Beat).kept == {"fm": {"users": 7, "tokens_encoded": 11}}
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child.process.pid, number)
        child.connection.send(Work(2, "m", histories([cases.RAISES])))
        told = child.next(Logged)
        assert "Traceback" in told.text and "by zero" in told.text
        assert child.next(WorkDone).outcome == Fault("inference", "m", "ZeroDivisionError: by zero")
        child.connection.close()
        assert child.process.wait(10) == 0


def test_the_garbage_collector_leaves_out_what_was_there_at_the_start() -> None:
    with spoken({"m": recipe("user", "frozen")}) as child:
        child.connection.send(Work(1, "m", histories([1])))
        assert child.next(WorkDone).outcome.rows[0, 0] > 10_000


def test_a_hung_batch_is_in_the_beats_and_does_not_outlive_the_connection() -> None:
    with spoken({"m": recipe("user", "scaled")}) as child:
        child.next(Started)
        child.connection.send(Work(1, "m", histories([cases.HANGS])))
        while child.next(Beat).busy_ns < 50_000_000:
            pass
        child.connection.close()
        assert child.process.wait(10) == 0


def test_dropped_work_is_not_done() -> None:
    with spoken({"m": recipe("user", "scaled"), "r": recipe("ranker", "halves")}) as child:
        for message in (Work(1, "m", histories([1])), Drop(1), Drop(99), Work(2, "r", ranking())):
            child.connection.send(message)
        child.next(Started)
        ids = {child.next(WorkDone).id for _ in range(1)}
        child.connection.send(Work(3, "m", histories([1])))
        ids.add(child.next(WorkDone).id)
        assert ids == {2, 3}


def test_a_model_that_cannot_be_made_is_refused_and_ends_it() -> None:
    with spoken({"m": recipe("user", "unable")}) as child:
        fault = child.next(Refused).fault
        assert (fault.kind, fault.subject) == ("config", "models.m.factory")
        assert child.process.wait(10) == 1


def test_versions_are_loaded_turned_and_restored(tmp_path: Path) -> None:
    for scale in (1.0, 2.0, 3.0):
        publish(tmp_path, scale=scale)
    recipes = {"m": recipe("user", "scaled", tmp_path)}
    before = {"m": ModelVersions(2, staged=3, previous=9)}
    with spoken(recipes, versions=before) as child:
        assert child.next(Started).versions == {"m": ModelVersions(2)}
        assert "version 9 of model 'm' is lost" in child.next(Logged).text
        assert child.next(Restored).versions == {"m": ModelVersions(2, staged=3)}
        child.connection.send(Turn(1, "swap", ("m",)))
        done = child.next(TurnDone)
        assert (done.outcome, done.versions) == ({"m": 3}, {"m": ModelVersions(3, None, 2)})
        child.connection.send(Turn(2, "swap", ("m",)))
        assert child.next(TurnDone).outcome == Fault("config", "m", "has no staged version")
        child.connection.send(Load(3, "m", 1))
        done = child.next(LoadDone)
        assert (done.id, done.outcome.version) == (3, 1)
        assert done.versions == {"m": ModelVersions(3, 1, 2)}
        child.connection.send(Turn(4, "discard", ("m",)))
        assert child.next(TurnDone).versions == {"m": ModelVersions(3, None, 2)}
        child.connection.send(Load(5, "m", 7))
        assert child.next(LoadDone).outcome.kind == "snapshot"
