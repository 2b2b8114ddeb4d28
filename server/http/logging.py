"""Log lines, as text or JSON, written by a thread: a slow terminal or disk never stops a request.

Invariant: the loop's thread only puts a record into a bounded queue; when that is full the record
is dropped and counted, and the count is the last line of the log.
"""

import logging
import queue
import random
from logging.handlers import QueueHandler, QueueListener
from typing import TextIO

import orjson

from predawn.server.config import LogConfig
from predawn.server.http.intake import Call

_RECORDS = 10_000
_ACCESS = logging.getLogger("predawn.access")


class JsonLines(logging.Formatter):
    """One JSON object a record; `extra={"fields": {...}}` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """One line a record: time, level, message, then key=value of the extra fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        return " ".join([super().format(record), *(f"{k}={v}" for k, v in fields.items())])


class DroppingHandler(QueueHandler):
    """Puts records into the queue without ever waiting."""

    def __init__(self, records: "queue.Queue[logging.LogRecord]") -> None:
        super().__init__(records)
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class Logs:
    """The process's logging while open; before and after, it is as it was."""

    def __init__(self, config: LogConfig, stream: TextIO) -> None:
        writer = logging.StreamHandler(stream)
        writer.setFormatter(JsonLines() if config.format == "json" else TextLines())
        records: queue.Queue[logging.LogRecord] = queue.Queue(_RECORDS)
        self._handler = DroppingHandler(records)
        self._listener = QueueListener(records, writer)
        self._level = getattr(logging, config.level.upper())
        self._before = logging.getLogger().level

    def open(self) -> None:
        """Starts the writing thread and takes over the root logger."""
        root = logging.getLogger()
        root.addHandler(self._handler)
        self._before = root.level
        root.setLevel(self._level)
        self._listener.start()

    def close(self) -> None:
        """Writes what is queued and ends the thread."""
        root = logging.getLogger()
        if self._handler.dropped:
            root.warning("%d log records were dropped: the log is too slow", self._handler.dropped)
        root.removeHandler(self._handler)
        root.setLevel(self._before)
        self._listener.stop()


class AccessLog:
    """Writes a share of the requests to the log, chosen by `rng`."""

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share = share
        self._rng = rng

    def log(self, call: Call, status: int, took_ns: int) -> None:
        """One answered request; most often it does nothing."""
        if self._share == 0.0 or self._rng.random() >= self._share:
            return
        fields = {
            "method": call.request.method,
            "path": call.request.path[:64],
            "status": status,
            "took_us": took_ns // 1000,
            "request_id": call.request_id,
        }
        _ACCESS.info("request", extra={"fields": fields})
