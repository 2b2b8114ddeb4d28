"""The device's thread: jobs in strict lane order, one step at a time.

Invariant: nothing of a lower lane begins or goes on while something of a higher lane is queued; a
job that can be sliced gives way between two slices and then goes on where it was. Whatever a job
raises, `sys.exit` included, ends that job alone, as an `InferenceError` with the model's name.
"""

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from predawn.server.clock import Clock
from predawn.server.engine import Computed
from predawn.server.engine_jobs import Outcome, Slices
from predawn.server.errors import InferenceError
from predawn.server.request import Lane

_LOG = logging.getLogger(__name__)
_LOG_EVERY_NS = 10_000_000_000  # a failing model writes one traceback in so much time
_NICEST = 19
_JOIN_S = 1.0  # an idle thread ends at once; a busy one is left behind as a daemon

Deliver = Callable[[Outcome | InferenceError, int], None]


@dataclass(slots=True, eq=False)
class Job:
    """begin: runs the whole job, or returns the slices of it; deliver: told the outcome and the
    nanoseconds on the device's thread, on that thread; dropped: nobody wants it any more."""

    lane: Lane
    name: str
    begin: Callable[[], Outcome | Slices]
    deliver: Deliver
    dropped: bool = False
    slices: Slices | None = None
    spent_ns: int = 0


class Worker:
    """nice: added to the thread's own niceness, where threads have one (Linux)."""

    def __init__(self, clock: Clock, nice: int = 0) -> None:
        self._clock = clock
        self._nice = nice
        self._queues: dict[Lane, deque[Job]] = {lane: deque() for lane in Lane}
        self._changed = threading.Condition()
        self._closed = False
        self._busy_since_ns = 0
        self._logged_ns = -_LOG_EVERY_NS
        self._thread = threading.Thread(target=self._work, name="predawn-engine", daemon=True)

    @property
    def busy_since_ns(self) -> int:
        """When the running step began (monotonic); 0: idle."""
        return self._busy_since_ns

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def submit(self, job: Job) -> bool:
        """Queues a job, from any thread; False once closed."""
        with self._changed:
            if not self._closed:
                self._queues[job.lane].append(job)
                self._changed.notify()
            return not self._closed

    def close(self) -> list[Job]:
        """Lets the thread end after the running step, if that ever ends; returns what was left."""
        with self._changed:
            self._closed = True
            left = [job for queue in self._queues.values() for job in queue]
            for queue in self._queues.values():
                queue.clear()
            self._changed.notify()
        if self._thread.is_alive() and self._busy_since_ns == 0:
            self._thread.join(_JOIN_S)
        return left

    def _work(self) -> None:
        give_way(self._nice)
        while (job := self._take()) is not None:
            if job.dropped:
                _end(job)
                continue
            began_ns = self._busy_since_ns = self._clock.monotonic_ns()
            outcome = self._step(job)
            job.spent_ns += self._clock.monotonic_ns() - began_ns
            self._busy_since_ns = 0
            if outcome is not None:
                _deliver(job, outcome)
            else:
                self._put_back(job)

    def _take(self) -> Job | None:
        """The next job in lane order; waits for one; None once closed."""
        with self._changed:
            while not self._closed:
                for queue in self._queues.values():
                    if queue:
                        return queue.popleft()
                self._changed.wait()
            return None

    def _put_back(self, job: Job) -> None:
        """First in its lane: it goes on as soon as nothing higher is queued."""
        with self._changed:
            self._queues[job.lane].appendleft(job)

    def _step(self, job: Job) -> Outcome | InferenceError | None:
        """Begins the job or runs its next slice; None: there are more."""
        try:
            if job.slices is None:
                begun = job.begin()
                if not isinstance(begun, Generator):
                    return begun
                job.slices = begun
            next(job.slices)
        except StopIteration as ended:
            outcome: Outcome = ended.value
            return outcome
        except BaseException as error:
            self._log(job.name, error)
            return named(job.name, error)
        return None

    def _log(self, name: str, error: BaseException) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._logged_ns >= _LOG_EVERY_NS:
            self._logged_ns = now_ns
            _LOG.error("model %r failed", name, exc_info=error)


def named(name: str, error: BaseException) -> InferenceError:
    """The error of a model as one that names it."""
    if isinstance(error, InferenceError):
        return error
    return InferenceError(name, f"{type(error).__name__}: {error}")


def give_way(nice: int) -> None:
    """Lets other threads of the process have the core before the calling one, when there are too
    few of them."""
    if nice and sys.platform == "linux":  # elsewhere niceness is the whole process's
        thread = threading.get_native_id()
        nicer = os.getpriority(os.PRIO_PROCESS, thread) + nice
        os.setpriority(os.PRIO_PROCESS, thread, min(nicer, _NICEST))


def _deliver(job: Job, outcome: Outcome | InferenceError) -> None:
    if isinstance(outcome, Computed):
        outcome = replace(outcome, engine_ns=job.spent_ns)
    job.slices = None
    job.deliver(outcome, job.spent_ns)


def _end(job: Job) -> None:
    """Closes what a dropped job had begun."""
    slices, job.slices = job.slices, None
    try:
        if slices is not None:
            slices.close()
    except BaseException as error:
        _LOG.error("model %r failed when it was stopped", job.name, exc_info=error)
