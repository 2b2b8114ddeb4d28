"""The worker processes of a torture: started, killed, stopped and let go on, by number.

Invariant: a number is started again only when its process is dead and buried. `close` leaves no
process behind.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from random import Random

from predawn.bench.harness import BenchError
from predawn.csrc import _torture

_START_S = 60.0
_END_S = 60.0
_LOOK_S = 0.001


class Crew:
    """store, oracle: paths. Workers are numbered from 0."""

    def __init__(
        self, store: str, oracle: str, supervisor: _torture.Supervisor, workers: int, random: Random
    ) -> None:
        self._paths = (store, oracle)
        self._supervisor = supervisor
        self._random = random
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * workers
        self._stopped: set[int] = set()

    @property
    def stopped(self) -> frozenset[int]:
        """Workers that are stopped."""
        return frozenset(self._stopped)

    def pid(self, number: int) -> int:
        """Of a living worker's process."""
        process = self._processes[number]
        if process is None:
            raise BenchError(f"torture: worker {number} does not live")
        return process.pid

    def running(self) -> list[int]:
        """Workers that live and are not stopped."""
        return [i for i, held in enumerate(self._processes) if held and i not in self._stopped]

    def living(self) -> list[int]:
        """Workers that live, stopped or not."""
        return [i for i, held in enumerate(self._processes) if held]

    def start(self, numbers: Sequence[int]) -> None:
        """Starts these workers, which must not live."""
        for number in numbers:
            seed = str(self._random.getrandbits(48))
            command = [sys.executable, "-m", "predawn.bench.torture_worker"]
            self._processes[number] = subprocess.Popen(
                [*command, *self._paths, str(number), seed],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def await_start(self, numbers: Sequence[int]) -> None:
        """Returns when all of them are attached."""
        end = time.monotonic() + _START_S
        while not all(
            attached for i, attached in enumerate(self._supervisor.attached()) if i in numbers
        ):
            self.look_for_dead()
            if time.monotonic() > end:
                raise BenchError(f"torture: workers did not start within {_START_S:g} s")
            time.sleep(_LOOK_S)

    def look_for_dead(self) -> None:
        """BenchError when a worker has ended by itself."""
        for number, process in enumerate(self._processes):
            if process is not None and process.poll() is not None:
                raise BenchError(f"torture: worker {number} ended by itself: {process.returncode}")

    def kill(self, number: int) -> None:
        """Kills a worker at whatever instruction it is, and buries it."""
        process = self._processes[number]
        if process is None:
            return
        self.look_for_dead()
        process.kill()
        process.wait()
        self._processes[number] = None
        self._stopped.discard(number)
        self._supervisor.bury(number)

    def stop(self, number: int) -> None:
        """Stops a worker at whatever instruction it is; returns when it stands."""
        process = self._processes[number]
        if process is None or number in self._stopped:
            return
        self.look_for_dead()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._stopped.add(number)

    def go_on(self, number: int) -> None:
        """Lets a stopped worker go on; nothing for others."""
        process = self._processes[number]
        if process is None or number not in self._stopped:
            return
        self._stopped.discard(number)
        process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """All living workers end as told, cleanly."""
        for number in self.stopped:
            self.go_on(number)
        self._supervisor.halt(True)
        for number, process in enumerate(self._processes):
            if process is not None and process.wait(_END_S) != 0:
                raise BenchError(f"torture: worker {number} ended with {process.returncode}")
            self._processes[number] = None
        self._supervisor.halt(False)

    def close(self) -> None:
        """Kills whoever still lives."""
        for number, process in enumerate(self._processes):
            if process is not None:
                process.kill()
                process.wait()
            self._processes[number] = None
