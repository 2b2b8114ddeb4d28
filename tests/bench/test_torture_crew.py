"""Workers of a torture: stopped ones stand, killed ones are gone, and death unasked is noticed."""

import os
import signal
from pathlib import Path

import pytest
from torture_rig import WORKERS, crew_at

from predawn.bench.harness import BenchError


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_stopped_worker_stands_until_it_is_let_go_on(tmp_path: Path) -> None:
    with crew_at(tmp_path) as (crew, supervisor):
        crew.stop(0)
        assert state_of(crew.pid(0)) == "T" and crew.stopped == {0} and crew.running() == [1]
        beats = supervisor.beats()[0]
        assert supervisor.put_beside([0])[2] == 0 and supervisor.beats()[0] == beats
        crew.go_on(0)
        crew.go_on(0)
        assert not crew.stopped and crew.running() == [0, 1]
        crew.end()
        assert supervisor.beats()[0] > 0 and crew.living() == []


def test_a_killed_worker_is_gone_and_can_be_started_again(tmp_path: Path) -> None:
    with crew_at(tmp_path) as (crew, supervisor):
        pid = crew.pid(1)
        crew.stop(1)
        crew.kill(1)
        crew.kill(1)
        assert not Path(f"/proc/{pid}").exists() and crew.living() == [0]
        assert supervisor.attached() == [True, False]
        crew.start([1])
        crew.await_start([1])
        assert crew.living() == list(range(WORKERS))


def test_a_worker_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    with crew_at(tmp_path) as (crew, _):
        pid = crew.pid(0)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(BenchError, match="worker 0 ended by itself: -9"):
            crew.look_for_dead()
