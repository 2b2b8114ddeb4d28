"""Keeps a process for the models alive: starts it, hears it, kills it when it hangs, starts again.

Invariant: at most one process, never left behind; what is sent goes to the process that was there
when it was handed over, or nowhere. Nothing here waits on the event loop's thread: one thread
sends (and gathers what is to be sent, in lane order), one receives and watches.
"""

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from predawn.server.clock import Clock
from predawn.server.engine_messages import Beat, FromChild, Setup, Started, ToChild
from predawn.server.request import Lane

_LOG = logging.getLogger(__name__)
_JOIN_S = 2.0
_EXIT_S = 1.0  # from the end of the connection to the end of the process
_STDERR = 2
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from predawn.server.engine_child import main; main(int(sys.argv[2]))"
)


@dataclass(frozen=True, slots=True)
class Watch:
    """hang_ms: a batch, or a silence, of so long ends the process. first_pause_s: before it is
    started again, doubled each time up to longest_pause_s; one that lived that long starts over."""

    hang_ms: int = 10_000
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0

    @property
    def beat_s(self) -> float:
        """How often the process says that it is there."""
        return min(1.0, self.hang_ms / 4000)


@dataclass(frozen=True, slots=True)
class Parcel:
    """make: what to send, made on the sending thread; failed: told when that raised."""

    lane: Lane
    make: Callable[[], ToChild]
    failed: Callable[[Exception], None]


class Supervisor:
    """setup: the first message of each process, asked for when it is started; received: told every
    message; lost: told why a process is gone. Both are called on the receiving thread."""

    def __init__(
        self,
        setup: Callable[[], Setup],
        received: Callable[[FromChild], None],
        lost: Callable[[str], None],
        watch: Watch,
        clock: Clock,
    ) -> None:
        self._setup = setup
        self._received = received
        self._lost = lost
        self._watch = watch
        self._clock = clock
        self._changed = threading.Condition()
        self._parcels: dict[Lane, deque[Parcel]] = {lane: deque() for lane in Lane}
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[ToChild, FromChild] | None = None
        self._up_since_ns = 0  # 0: not all models are loaded
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in {
                "predawn-engine-watch": self._supervise,
                "predawn-engine-send": self._send_all,
            }.items()
        ]

    @property
    def pid(self) -> int:
        """Of the process; 0 when there is none."""
        process = self._process
        return 0 if process is None else process.pid

    def start(self) -> None:
        """Starts the threads, and they the process."""
        for thread in self._threads:
            thread.start()

    def post(self, parcel: Parcel) -> None:
        """Sends it to the process that is there or is being started."""
        with self._changed:
            self._parcels[parcel.lane].append(parcel)
            self._changed.notify_all()

    def close(self) -> None:
        """Kills the process: it holds nothing that anybody needs. Waits for it, briefly."""
        with self._changed:
            self._closed.set()
            self._clear()
            if self._process is not None:
                self._process.kill()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(_JOIN_S)

    # Receiving and watching

    def _supervise(self) -> None:
        pause_s = self._watch.first_pause_s
        while not self._closed.is_set():
            self._up_since_ns = 0
            try:
                reason = self._serve_one()
            except OSError as error:  # no memory, no process, no file descriptor left
                reason = f"cannot be started: {error}"
            if self._closed.is_set():
                return
            self._lost(reason)
            if self._was_up_for_s() > self._watch.longest_pause_s:
                pause_s = self._watch.first_pause_s
            _LOG.error("the models' process %s; it is started again in %.2g s", reason, pause_s)
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, self._watch.longest_pause_s)

    def _was_up_for_s(self) -> float:
        since_ns = self._up_since_ns
        return (self._clock.monotonic_ns() - since_ns) / 1e9 if since_ns else 0.0

    def _serve_one(self) -> str:
        """From the start of a process to its end; why it ended."""
        process, connection = self._started()
        try:
            connection.send(self._setup())
            with self._changed:
                self._connection = connection
                self._changed.notify_all()
            hung = self._receive(process, connection)
        except OSError:
            hung = ""
        except Exception as error:  # what came is no message: a model wrote to what is not its own
            process.kill()
            hung = f"said what cannot be read and was killed: {type(error).__name__}: {error}"
        finally:
            with self._changed:
                self._clear()
                self._connection = None
            process_end = _ended(process)
            with self._changed:
                self._process = None
            connection.close()
        return hung or process_end

    def _started(self) -> "tuple[subprocess.Popen[bytes], Connection[ToChild, FromChild]]":
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = _spawned(theirs.fileno())
        except OSError:
            ours.close()
            raise
        with self._changed:
            self._process = process
            if self._closed.is_set():
                process.kill()
        return process, Connection(ours.detach())

    def _receive(
        self, process: "subprocess.Popen[bytes]", connection: "Connection[ToChild, FromChild]"
    ) -> str:
        """Until the connection ends or the process hangs; how it hung, or ""."""
        limit_ms = self._watch.hang_ms
        silent_s = limit_ms / 1000 + 2 * self._watch.beat_s
        while True:
            # Loading may keep the interpreter for long: only a process that is up can be silent.
            if not connection.poll(silent_s if self._up_since_ns else None):
                process.kill()
                return f"said nothing for {silent_s:.1f} s"
            try:
                message = connection.recv()
            except EOFError:
                return ""
            if isinstance(message, Started):
                self._up_since_ns = self._clock.monotonic_ns()
            if isinstance(message, Beat) and message.busy_ns > limit_ms * 1_000_000:
                process.kill()
                return f"ran one batch for more than {limit_ms} ms and was killed"
            self._received(message)

    # Sending

    def _send_all(self) -> None:
        while (taken := self._take()) is not None:
            parcel, connection = taken
            try:
                connection.send(parcel.make())
            except BrokenPipeError:
                _LOG.debug("the models' process was lost before a message reached it")
            except Exception as error:
                parcel.failed(error)

    def _take(self) -> "tuple[Parcel, Connection[ToChild, FromChild]] | None":
        with self._changed:
            while not self._closed.is_set():
                if self._connection is not None:
                    for parcels in self._parcels.values():
                        if parcels:
                            return parcels.popleft(), self._connection
                self._changed.wait()
            return None

    def _clear(self) -> None:
        for parcels in self._parcels.values():
            parcels.clear()


def _spawned(descriptor: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(descriptor)],
        pass_fds=(descriptor,),
        stdin=subprocess.DEVNULL,
        stdout=_STDERR,
        process_group=0,  # Ctrl-C in a terminal is the parent's to handle
    )


def _ended(process: "subprocess.Popen[bytes]") -> str:
    """Waits for the end of a process whose connection has ended; how it ended."""
    try:
        code = process.wait(_EXIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
