"""Children of tests on a shared store: what they do, in a module that a spawned one can import."""

import multiprocessing
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from store_calls import get, keys_of, put

from predawn.csrc._core import EmbeddingCache

IDS = range(60)
WAIT_S = 60.0


class Child:
    """A process that runs `work(channel, *arguments)`, and the other end of its channel."""

    def __init__(self, method: str, work: Callable[..., None], *arguments: Any) -> None:
        context: Any = multiprocessing.get_context(method)
        self.channel, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, *arguments))
        self.process.start()
        theirs.close()

    def heard(self) -> Any:
        """What it sends next."""
        assert self.channel.poll(WAIT_S), "the child says nothing"
        return self.channel.recv()

    def kill(self) -> None:
        """SIGKILL, at whatever it does."""
        self.process.kill()
        self.process.join()

    def end(self) -> None:
        """Lets it end by itself, and well."""
        self.channel.send("end")
        self.process.join(WAIT_S)
        assert self.process.exitcode == 0


@contextmanager
def child(method: str, work: Callable[..., None], *arguments: Any) -> Generator[Child, None, None]:
    """Killed at the end, if it still lives."""
    made = Child(method, work, *arguments)
    try:
        yield made
    finally:
        made.kill()
        made.channel.close()


def read_then_write(channel: Connection, path: str) -> None:
    """Sends what it finds, then writes version 2 of everything."""
    with EmbeddingCache.attach(path) as store:
        channel.send(get(store, IDS).rows[:, 1].tolist())
        put(store, IDS, version=2)
        channel.send("written")
        channel.recv()


def write_for_ever(channel: Connection, path: str, version: int) -> None:
    """Until it is killed."""
    store = EmbeddingCache.attach(path)
    channel.send("at work")
    while True:
        put(store, IDS, version=version)


def write_once(channel: Connection, path: str, version: int) -> None:
    """Many rounds, then it leaves."""
    with EmbeddingCache.attach(path) as store:
        for _ in range(200):
            assert put(store, IDS, version=version) == len(IDS)
            assert store.get_many(*read_arguments()) == len(IDS)
        channel.send("written")
        channel.recv()


def read_arguments() -> tuple[Any, ...]:
    rows, ages = np.empty((len(IDS), 8), np.float32), np.empty(len(IDS), np.int64)
    return keys_of(IDS), 0, 10**9, rows, ages


def hold(channel: Connection, path: str) -> None:
    """Attached until told otherwise."""
    with EmbeddingCache.attach(path):
        channel.send("attached")
        channel.recv()
