"""A process kept alive: sent to in lane order, watched, killed, started again, never left over."""

import os
import signal
import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import Any

import engine_cases as cases
import pytest
from engine_cases import NOBODY, histories, ranking, recipe

from predawn.server.clock import SystemClock
from predawn.server.engine_messages import (
    Beat,
    Drop,
    FromChild,
    Refused,
    Setup,
    Started,
    ToChild,
    Work,
    WorkDone,
)
from predawn.server.engine_supervisor import Parcel, Supervisor, Watch
from predawn.server.request import Lane


class Kept:
    """A supervisor and what it told."""

    def __init__(self, factory: str = "scaled", watch: Watch | None = None) -> None:
        self.heard: SimpleQueue[FromChild] = SimpleQueue()
        self.losses: SimpleQueue[str] = SimpleQueue()
        self.watch = watch or Watch(first_pause_s=0.01)
        recipes = {"m": recipe("user", factory), "r": recipe("ranker", "halves")}
        self.setup = Setup(recipes, NOBODY, 8, 0, self.watch.beat_s, 30)
        self.supervisor = Supervisor(
            lambda: self.setup, self.heard.put, self.losses.put, self.watch, SystemClock()
        )

    def next(self, kind: type[Any]) -> Any:
        while not isinstance(message := self.heard.get(timeout=10), kind):
            assert isinstance(message, Beat | Started)
        return message

    def post(self, lane: Lane, message: ToChild | Exception) -> None:
        def make() -> ToChild:
            if isinstance(message, Exception):
                raise message
            return message

        self.supervisor.post(Parcel(lane, make, lambda error: self.losses.put(str(error))))


@pytest.fixture
def kept() -> Generator[Kept]:
    made = Kept()
    made.supervisor.start()
    yield made
    made.supervisor.close()


def test_what_is_posted_before_the_process_is_up_is_sent_in_lane_order(kept: Kept) -> None:
    gate, entered = threading.Event(), threading.Event()

    def held() -> ToChild:
        entered.set()
        assert gate.wait(10)
        return Drop(0)

    kept.supervisor.post(Parcel(Lane.RANK, held, lambda error: None))
    assert entered.wait(10)
    kept.post(Lane.WAIT, Work(1, "m", histories([1])))
    kept.post(Lane.WAIT, Work(2, "m", histories([2])))
    kept.post(Lane.RANK, Work(3, "r", ranking()))
    kept.next(Started)
    gate.set()
    assert [kept.next(WorkDone).id for _ in range(3)] == [3, 1, 2]


def test_what_cannot_be_made_is_told_and_the_next_is_sent(kept: Kept) -> None:
    kept.post(Lane.WAIT, ValueError("no history"))
    kept.post(Lane.WAIT, Work(1, "m", histories([1])))
    assert kept.losses.get(timeout=10) == "no history"
    assert kept.next(WorkDone).id == 1


def test_a_lost_process_is_told_and_started_again_until_closed(kept: Kept) -> None:
    kept.next(Started)
    pids = [kept.supervisor.pid]
    os.kill(pids[0], signal.SIGKILL)
    assert kept.losses.get(timeout=10) == "was ended by SIGKILL"
    kept.next(Started)
    pids.append(kept.supervisor.pid)
    kept.supervisor.close()
    assert kept.supervisor.pid == 0 and kept.losses.empty()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_pauses_grow_up_to_their_limit(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept("unable", Watch(first_pause_s=0.01, longest_pause_s=0.03))
    kept.supervisor.start()
    for _ in range(3):
        assert isinstance(kept.heard.get(timeout=10), Refused)
        assert kept.losses.get(timeout=10) == "ended with exit code 1"
    kept.heard.get(timeout=10)
    kept.supervisor.close()
    pauses = [record.getMessage().rsplit(" in ", 1)[1] for record in caplog.records]
    assert pauses[:3] == ["0.01 s", "0.02 s", "0.03 s"]


def test_a_process_that_says_what_cannot_be_read_is_replaced(kept: Kept) -> None:
    kept.next(Started)
    pid = kept.supervisor.pid
    kept.post(Lane.WAIT, Work(1, "m", histories([cases.GARBLES])))
    assert "said what cannot be read and was killed" in kept.losses.get(timeout=10)
    kept.next(Started)
    assert kept.supervisor.pid != pid


def test_closing_at_any_time_leaves_nothing_behind() -> None:
    kept = Kept()
    kept.supervisor.start()
    kept.supervisor.close()
    assert kept.supervisor.pid == 0
    assert not any(thread.name.startswith("predawn-engine-") for thread in threading.enumerate())


def test_beats_come_four_times_before_a_hang_and_at_least_every_second() -> None:
    assert Watch(hang_ms=400).beat_s == 0.1
    assert Watch(hang_ms=60_000).beat_s == 1
