"""Several processes on one store: spawned and forked ones, killed ones, and restarts after them."""

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from store_calls import found, get, put, scanned
from store_children import (
    IDS,
    WAIT_S,
    Child,
    child,
    hold,
    read_then_write,
    write_for_ever,
    write_once,
)

from predawn.csrc._core import EmbeddingCache, StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def new_store(path: Path | None) -> EmbeddingCache:
    return EmbeddingCache.create(path, capacity=200, dim=8, dtype="fp32", huge_pages=False)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_see_what_the_others_write(path: Path, method: str) -> None:
    with new_store(path) as store:
        put(store, IDS, version=1)
        with child(method, read_then_write, str(path)) as other:
            assert other.heard() == [1.0] * len(IDS)
            assert other.heard() == "written"
            assert get(store, IDS).rows[:, 1].tolist() == [2.0] * len(IDS)
            other.end()
        assert store.check() == []


def test_a_forked_child_goes_on_with_its_parents_store(path: Path) -> None:
    for at in (path, None):
        with new_store(at) as store:
            put(store, IDS, version=1)

            def work(channel: Connection, store: EmbeddingCache = store) -> None:
                assert found(store, IDS) == list(IDS)
                put(store, IDS, version=3)
                store.close()
                channel.send("written")

            with child("fork", work) as other:
                assert other.heard() == "written"
                other.process.join(WAIT_S)
                assert other.process.exitcode == 0
            assert get(store, IDS).rows[:, 1].tolist() == [3.0] * len(IDS)
            put(store, IDS, version=4)
            assert store.check() == []


def test_writers_of_the_same_keys_never_mix_their_rows(path: Path) -> None:
    with new_store(path) as store:
        put(store, IDS, version=1)
        others = [Child("fork", write_once, str(path), version) for version in (5, 6, 7)]
        assert [other.heard() for other in others] == ["written"] * 3
        rows = get(store, IDS).rows
        assert rows[:, 0].tolist() == list(IDS)
        assert set(rows[:, 1:].ravel().tolist()) <= {5.0, 6.0, 7.0}
        assert all((row[1:] == row[1]).all() for row in rows)
        for other in others:
            other.end()
        assert store.check() == [] and store.stats()["entries"] == len(IDS)


def test_a_killed_writer_leaves_a_sound_store_to_the_others(path: Path) -> None:
    with new_store(path) as store:
        put(store, IDS, version=1)
        for version in range(8, 14):
            with child("fork", write_for_ever, str(path), version) as other:
                assert other.heard() == "at work"
                for _ in range(50):
                    assert found(store, IDS) == list(IDS)
                other.kill()
            store.reap()
            assert store.check() == []
            assert put(store, IDS, version=1) == len(IDS)
        assert store.stats()["entries"] == len(IDS)


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_restart_finds_everything(path: Path, is_clean: bool) -> None:
    with new_store(path) as store:
        put(store, IDS, version=1, now_ms=5)
        others = [Child("fork", hold, str(path)) for _ in range(3)]
        assert [other.heard() for other in others] == ["attached"] * 3
        before = scanned(store)
    for other in others:
        other.end() if is_clean else other.kill()
    with EmbeddingCache.attach(path) as store:
        stats = store.stats()
        kept, dropped = stats["recovered_kept"], stats["recovered_dropped"]
        assert (kept, dropped) == (0 if is_clean else len(IDS), 0)
        assert scanned(store) == before
        assert store.check() == [] and stats["entries"] == len(IDS)


def test_a_store_that_was_written_by_the_killed_alone_is_found_again(path: Path) -> None:
    new_store(path).close()
    others = [Child("fork", write_for_ever, str(path), version) for version in (3, 4)]
    assert [other.heard() for other in others] == ["at work"] * 2
    with EmbeddingCache.attach(path) as store:
        while len(found(store, IDS)) < len(IDS):
            pass
    for other in others:
        other.kill()
    with EmbeddingCache.attach(path) as store:
        assert store.stats()["recovered_kept"] == len(IDS)
        rows = get(store, IDS).rows
        assert set(rows[:, 1:].ravel().tolist()) <= {3.0, 4.0} and store.check() == []


def test_closed_is_closed_even_while_the_object_lives(path: Path) -> None:
    store = new_store(path)
    put(store, IDS)
    store.close()
    with EmbeddingCache.attach(path) as other:
        assert other.stats()["recovered_kept"] == 0 and found(other, IDS) == list(IDS)
    with pytest.raises(StoreError, match="closed"):
        put(store, IDS)
    store.close()


def locks_on(path: Path) -> int:
    """How many attachments the kernel knows as alive."""
    inode = f":{path.stat().st_ino} "
    return sum(inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_killed_parent_counts_as_dead_though_its_memory_lives_on_in_a_child(path: Path) -> None:
    def parent(channel: Connection) -> None:
        store = new_store(path)
        put(store, IDS, version=1)
        if os.fork() == 0:
            put(store, IDS, version=2)
            channel.send(locks_on(path))
            channel.recv()
            channel.send(locks_on(path))
            store.close()
            os._exit(0)
        signal.pause()

    with child("fork", parent) as other:
        assert other.heard() == 2
        os.kill(other.process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, other.process.pid, os.WEXITED | os.WNOWAIT)
        other.channel.send("go on")
        assert other.heard() == 1
    with EmbeddingCache.attach(path) as store:
        assert get(store, IDS).rows[:, 1].tolist() == [2.0] * len(IDS)
