"""Processes that a benchmark or the demo starts: they end with it, and their last words are kept.

A child is tied to its parent by the kernel (PR_SET_PDEATHSIG), so that it ends even when the
parent is killed; it leads a session of its own, so that Ctrl-C reaches the parent alone.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from predawn.server.errors import PredawnError

# The parent may be gone before the tie is made: then its id is not ours to see any more.
_TETHER = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)
_POLL_S = 0.05


class ChildDied(PredawnError):
    """A child ended, or did not become ready; the message has its last lines."""


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Child:
    """A Python process listening on a loopback port. Use as a context manager."""

    def __init__(
        self,
        arguments: Sequence[str],
        port: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """arguments: after the interpreter, such as ["-m", "predawn.server", ...]; log: gets
        standard output and error."""
        self.port = port
        self.log = log
        self._arguments = list(arguments)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _TETHER, str(os.getpid()), *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def last_words(self, lines: int = 12) -> str:
        """The last lines of the child's log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:]) or "(it said nothing)"

    def wait_ready(self, path: str, timeout_s: float, poll_s: float = _POLL_S) -> float:
        """Returns when GET `path` answers 200, asked every `poll_s`, with the seconds it took;
        ChildDied otherwise."""
        start = time.perf_counter()
        while not self._answers(path):
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(poll_s)
                raise ChildDied(f"{self}: ended with status {status}:\n{self.last_words()}")
            if time.perf_counter() - start > timeout_s:
                raise ChildDied(f"{self}: not ready in {timeout_s:.0f} s:\n{self.last_words()}")
        return time.perf_counter() - start

    def _answers(self, path: str) -> bool:
        try:
            return self.get(path, timeout_s=2.0)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, bytes]:
        """Status and body of GET `path`."""
        return self.request("GET", path, None, timeout_s)

    def request(
        self, method: str, path: str, body: bytes | None, timeout_s: float = 5.0
    ) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self, timeout_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL when it does not end in time."""
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __str__(self) -> str:
        return f"python {' '.join(self._arguments[:3])}"
