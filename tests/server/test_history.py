"""History: grouped commits, bounded buffer, acknowledged means kept (also after kill -9)."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from predawn.server.clock import SystemClock
from predawn.server.config import HistoryConfig
from predawn.server.errors import BadRequest, Overloaded, Unavailable, UnknownName
from predawn.server.history import Events, History, HistoryLimits
from predawn.server.history_store import EventStore
from predawn.server.request import UserId

NOW_MS = 1_700_000_000_000


class FixedClock:
    """A clock that stands still."""

    def monotonic_ns(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return NOW_MS


def one(user: UserId = 1, item: int = 1, t_ms: int = 1, types: int = 1, count: int = 1) -> Events:
    """`count` equal events."""
    return Events(
        users=[user] * count,
        items=np.full(count, item, np.uint64),
        types=np.full(count, types, np.uint16),
        t_ms=np.full(count, t_ms, np.int64),
    )


def made(path: Path | str = "", limits: HistoryLimits | None = None) -> History:
    """A history that is not open yet."""
    return History(str(path), ["shown", "clicked"], ["age"], 4, FixedClock(), limits)


@contextlib.asynccontextmanager
async def running(history: History) -> AsyncIterator[History]:
    """Open, with its committer running."""
    history.open()
    task = asyncio.create_task(history.run())
    try:
        yield history
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        history.close()


class Commits:
    """Counts transactions, and can hold the writer in front of one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        write = EventStore.write

        def counted(store: EventStore, groups: list[Events]) -> None:
            self.gate.wait()
            self.sizes.append(sum(len(events.users) for events in groups))
            write(store, groups)

        monkeypatch.setattr(EventStore, "write", counted)


@pytest.mark.parametrize("durability", ["disk", "process"])
def test_an_acknowledged_event_is_read_and_survives_a_restart(
    tmp_path: Path, durability: str
) -> None:
    config = HistoryConfig(path=str(tmp_path), types=["shown"], durability=durability)

    async def append() -> None:
        async with running(History.from_config(config, FixedClock())) as history:
            assert await history.append(one("a", 7, count=3)) == 3
            assert history.gather(["a"]).lengths.tolist() == [3]

    async def read() -> None:
        async with running(History.from_config(config, FixedClock())) as history:
            assert list(history.users()) == ["a"] and history.count_users() == 1
            assert history.gather(["a"]).items[0, :4].tolist() == [7, 7, 7, 0]

    asyncio.run(append())
    asyncio.run(read())


def test_an_event_without_a_time_happened_now() -> None:
    async def scenario() -> None:
        async with running(made()) as history:
            await history.append(one(1, t_ms=-1))
            batch = history.gather([1])
            assert batch.hour[0] == np.float32(NOW_MS % 86_400_000 / 3_600_000)

    asyncio.run(scenario())


def test_events_appended_together_are_committed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = Commits(monkeypatch)

    async def scenario() -> None:
        async with running(made(limits=HistoryLimits(commit_events=10))) as history:
            acks = [history.append(one(user, count=3)) for user in range(7)]
            assert await asyncio.gather(*acks) == [3] * 7

    asyncio.run(scenario())
    assert commits.sizes == [12, 9]


def test_the_loop_goes_on_while_the_writer_works(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = Commits(monkeypatch)

    async def scenario() -> None:
        async with running(made(limits=HistoryLimits(commit_events=1))) as history:
            commits.gate.clear()
            ack = history.append(one())
            for _ in range(20):
                await asyncio.sleep(0)
            assert not ack.done() and history.gather([1]).lengths[0] == 0
            commits.gate.set()
            assert await ack == 1

    asyncio.run(scenario())


def test_a_full_buffer_refuses_and_empties_again(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = Commits(monkeypatch)
    limits = HistoryLimits(commit_events=1, buffer_events=3)

    async def scenario() -> None:
        async with running(made(limits=limits)) as history:
            commits.gate.clear()
            acks = [history.append(one(count=2))]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match=r"history.buffer_limit: 2 events") as caught:
                history.append(one(count=2))
            assert 0.5 <= caught.value.retry_after_s <= 1.5
            acks.append(history.append(one(count=1)))
            commits.gate.set()
            assert await asyncio.gather(*acks) == [2, 1]
            assert await history.append(one(count=4)) == 4

    asyncio.run(scenario())


def test_a_full_store_fails_the_ack_and_the_next_small_event_is_kept() -> None:
    limits = HistoryLimits(size_limit_bytes=2**20)

    async def scenario() -> None:
        async with running(made(limits=limits)) as history:
            await history.append(one())
            flood = Events(
                users=list(range(10, 20_000)),
                items=np.ones(19_990, np.uint64),
                types=np.ones(19_990, np.uint16),
                t_ms=np.ones(19_990, np.int64),
            )
            with pytest.raises(Unavailable, match=r"history.size_limit"):
                await history.append(flood)
            assert history.count_users() == 1
            assert await history.append(one()) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("events", "error", "field"),
    [
        (one(t_ms=NOW_MS + 86_400_001), BadRequest, "events[0].t_ms"),
        (one("x" * 300), BadRequest, "events[0].user"),
        (one(types=4), BadRequest, "events[0].types"),
    ],
)
def test_bad_events_are_refused_at_once_and_change_nothing(
    events: Events, error: type[BadRequest], field: str
) -> None:
    async def scenario() -> None:
        async with running(made()) as history:
            with pytest.raises(error) as caught:
                history.append(events)
            assert caught.value.field == field and history.count_users() == 0

    asyncio.run(scenario())


def test_unknown_attributes_are_refused_and_known_ones_kept() -> None:
    def attributes(name: str) -> Events:
        none = one(count=0)
        return Events(none.users, none.items, none.types, none.t_ms, [("a", {name: 2.0})])

    async def scenario() -> None:
        async with running(made()) as history:
            with pytest.raises(UnknownName, match="did you mean 'age'"):
                history.append(attributes("aged"))
            assert await history.append(attributes("age")) == 0
            assert history.gather(["a"]).attributes.tolist() == [[2.0]]

    asyncio.run(scenario())


def test_a_caller_that_left_does_not_take_its_events_along() -> None:
    async def scenario() -> None:
        async with running(made()) as history:
            history.append(one(1)).cancel()
            await history.append(one(2))
            assert history.count_users() == 2

    asyncio.run(scenario())


def test_close_commits_and_acknowledges_what_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        history = made(tmp_path)
        history.open()
        ack = history.append(one(5))
        history.close()
        assert await ack == 1
        with pytest.raises(Unavailable, match="not open"):
            history.append(one())
        with pytest.raises(Unavailable, match="not open"):
            history.gather([5])

    async def read() -> None:
        async with running(made(tmp_path)) as history:
            assert list(history.users()) == [5]

    asyncio.run(scenario())
    asyncio.run(read())


def test_cancelling_run_during_a_commit_still_acknowledges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commits = Commits(monkeypatch)

    async def scenario() -> None:
        history = made(limits=HistoryLimits(commit_events=1))
        history.open()
        task = asyncio.create_task(history.run())
        commits.gate.clear()
        ack = history.append(one(5))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        commits.gate.set()
        history.close()
        assert await ack == 1

    asyncio.run(scenario())


def test_a_temporary_store_is_gone_after_close(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    history = made()
    history.open()
    assert [path.name.startswith("predawn-") for path in tmp_path.iterdir()] == [True]
    history.close()
    assert not list(tmp_path.iterdir())


WRITER = """
import asyncio, sys
import numpy as np
from predawn.server.clock import SystemClock
from predawn.server.history import Events, History, HistoryLimits

async def main():
    path, durability, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
    limits = HistoryLimits(durability=durability, commit_events=64)
    history = History(path, ["shown"], [], 4, SystemClock(), limits)
    history.open()
    task = asyncio.create_task(history.run())
    async def client(lane):
        item = first + lane
        while True:
            ids = np.array([item], np.uint64)
            await history.append(
                Events([int(item)], ids, np.ones(1, np.uint16), np.ones(1, np.int64))
            )
            print(item, flush=True)
            item += 8
    await asyncio.gather(*map(client, range(8)))
asyncio.run(main())
"""


@pytest.mark.parametrize("durability", ["disk", "process"])
def test_no_acknowledged_event_is_lost_to_kill_nine(tmp_path: Path, durability: str) -> None:
    dice = random.Random(durability)
    acknowledged: list[int] = []
    for round_ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), durability, str(round_ * 10**6)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        count = dice.randrange(1, 400)
        acknowledged += [int(writer.stdout.readline()) for _ in range(count)]
        os.kill(writer.pid, signal.SIGKILL)
        rest, _ = writer.communicate()
        acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line[-1] == "\n"]
        assert writer.returncode == -signal.SIGKILL
        assert_kept(tmp_path, acknowledged)


def assert_kept(path: Path, items: list[int]) -> None:
    """Every item is the only event of the user of the same number."""
    history = History(str(path), ["shown"], [], 4, SystemClock())
    history.open()
    kept = history.gather(items).items
    assert kept[:, 0].tolist() == items and not kept[:, 1:].any()
    history.close()
