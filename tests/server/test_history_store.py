"""The LMDB store: against a twin, across restarts, full, foreign, and read by two processes."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.errors import ConfigError, Unavailable
from predawn.server.history_memory import MemoryHistory
from predawn.server.history_record import Events, RecordLayout
from predawn.server.history_store import EventStore, key_of, user_of
from predawn.server.request import UserBatch, UserId

TYPES, ATTRIBUTES, MIB = ("shown", "clicked"), ("age",), 2**20
LAYOUT = RecordLayout(TYPES, ATTRIBUTES, 4)

Row = tuple[UserId, int, int, int]  # user, item, t_ms, types


def columns(*rows: Row, attributes: list[tuple[UserId, dict[str, float]]] | None = None) -> Events:
    """Rows to columns."""
    return Events(
        users=[row[0] for row in rows],
        items=np.array([row[1] for row in rows], np.uint64),
        types=np.array([row[3] for row in rows], np.uint16),
        t_ms=np.array([row[2] for row in rows], np.int64),
        attributes=attributes or [],
    )


def opened(path: Path, layout: RecordLayout = LAYOUT, size: int = 16 * MIB) -> EventStore:
    """A store that a killed process would leave sound."""
    return EventStore(path, layout, size, power_safe=False)


def same(a: UserBatch, b: UserBatch) -> bool:
    """Whether two batches are equal in every array."""
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in a.__slots__)


users = st.sampled_from([0, 1, 2**64 - 1, "", "1", "é"])
rows = st.tuples(users, st.integers(0, 2**64 - 1), st.integers(0, 2**45), st.integers(0, 3))
values = st.dictionaries(st.just("age"), st.floats(0, 9, width=32))
groups = st.lists(
    st.tuples(st.lists(rows, max_size=6), st.lists(st.tuples(users, values), max_size=2)),
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(groups, max_size=4))
def test_the_store_gives_what_memory_gives_also_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory,
    commits: list[list[tuple[list[Row], list[tuple[UserId, dict[str, float]]]]]],
) -> None:
    path, twin = tmp_path_factory.mktemp("store"), MemoryHistory(TYPES, ATTRIBUTES, 4)
    everyone: list[UserId] = [0, 1, 2**64 - 1, "", "1", "é"]
    store = opened(path)
    for commit in commits:
        events = [columns(*rows, attributes=attributes) for rows, attributes in commit]
        store.write(events)
        for part in events:
            twin.append_now(part)
        assert same(store.gather(everyone), twin.gather(everyone))
    store.close()
    store = opened(path)
    assert same(store.gather(everyone), twin.gather(everyone))
    assert sorted(store.users(), key=key_of) == sorted(twin.users(), key=key_of)
    assert store.count_users() == twin.count_users()
    store.close()


@given(st.integers(0, 2**64 - 1) | st.text(max_size=64))
def test_a_key_reads_back_as_its_user(user: UserId) -> None:
    assert user_of(key_of(user)) == user


def test_integers_sort_by_value_and_before_strings() -> None:
    ordered: list[UserId] = [0, 255, 256, 2**63, "", "1"]
    assert sorted(ordered, key=key_of) == ordered


def test_users_come_in_chunks_and_each_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write([columns(*[(user, 1, 1, 1) for user in range(2500)], ("z", 1, 1, 1))])
    sweep = store.users()
    seen = [next(sweep) for _ in range(1500)]
    store.write([columns((10, 2, 2, 1), (99_999, 1, 1, 1))])
    seen += sweep
    assert seen == [*range(2500), 99_999, "z"]
    store.close()


def test_a_changed_length_keeps_what_fits(tmp_path: Path) -> None:
    def reopened(length: int) -> EventStore:
        return opened(tmp_path, RecordLayout(TYPES, ATTRIBUTES, length))

    store = reopened(4)
    store.write([columns(*[(7, item, item, 1) for item in (1, 2, 3, 4, 5)])])
    store.close()
    store = reopened(3)
    assert store.gather([7]).items.tolist() == [[5, 4, 3]]
    store.write([columns((7, 6, 6, 1))])
    store.close()
    store = reopened(5)
    batch = store.gather([7])
    assert batch.items.tolist() == [[6, 5, 4, 0, 0]] and batch.counts.tolist() == [[6, 0]]
    store.close()


def test_types_may_be_added_at_the_end(tmp_path: Path) -> None:
    opened(tmp_path).close()
    opened(tmp_path, RecordLayout((*TYPES, "liked"), ATTRIBUTES, 4)).close()
    with pytest.raises(ConfigError, match="liked"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("layout", "field"),
    [
        (RecordLayout(("clicked", "shown"), ATTRIBUTES, 4), "history.types"),
        (RecordLayout(TYPES, ("height",), 4), "history.attributes"),
        (RecordLayout(TYPES, (), 4), "history.attributes"),
    ],
)
def test_another_meaning_of_bits_is_refused(
    tmp_path: Path, layout: RecordLayout, field: str
) -> None:
    opened(tmp_path).close()
    with pytest.raises(ConfigError, match=r"name another history.path") as caught:
        opened(tmp_path, layout)
    assert caught.value.field == field


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with lmdb.open(str(tmp_path), max_dbs=4) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True, db=meta) as txn:
            txn.put(b"meta", json.dumps({"format": 2, "compressed": True}).encode())
    with pytest.raises(ConfigError, match=r"history.path.*format 2, this version reads 1"):
        opened(tmp_path)


def test_somebody_elses_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "lmdb"), max_dbs=1) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")
    with pytest.raises(ConfigError, match=r"history.path.*something else"):
        opened(tmp_path / "lmdb")
    with lmdb.open(str(tmp_path / "lmdb")) as env, env.begin() as txn:
        assert txn.stat()["entries"] == 1
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "data.mdb").write_bytes(b"not LMDB" * 4096)
    with pytest.raises(ConfigError, match=r"history.path.*something else"):
        opened(tmp_path / "text")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/predawn")):
        with pytest.raises(ConfigError, match=r"history.path: .*") as caught:
            opened(place)
        assert str(place) in caught.value.reason


def test_a_full_store_refuses_and_changes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path, size=MIB)
    wide = columns(*[(user, 1, 1, 1) for user in range(100)])
    store.write([wide])
    flood = columns((0, 2, 2, 2), *[(user, 1, 1, 1) for user in range(1000, 9000)])
    before = store.gather([0, 1000])
    with pytest.raises(Unavailable, match=r"history.size_limit: .*full at 1048576 bytes"):
        store.write([columns((0, 3, 3, 1)), flood])
    assert same(store.gather([0, 1000]), before) and store.count_users() == 100
    store.write([columns((0, 4, 4, 1))])
    assert store.gather([0]).items[0, 0] == 4
    store.close()


def test_an_id_beyond_the_limit_has_no_history(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write([columns(("x" * 256, 1, 1, 1))])
    assert store.gather(["x" * 256, "x" * 257, "x" * 600]).lengths.tolist() == [1, 0, 0]
    store.close()


READER = """
import sys
from pathlib import Path
from predawn.server.history_record import RecordLayout
from predawn.server.history_store import EventStore
store = EventStore(Path(sys.argv[1]), RecordLayout(("shown", "clicked"), ("age",), 4), 2**24, False)
print("open", flush=True)
for line in sys.stdin:
    print(*store.gather([int(line)]).items[0].tolist(), flush=True)
"""


def test_two_processes_read_what_a_third_has_committed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        assert [r.stdout.readline() for r in readers if r.stdout] == ["open\n"] * 2
        for item in (11, 12, 13):
            store.write([columns((5, item, item, 1))])
            for reader in readers:
                assert reader.stdin and reader.stdout
                reader.stdin.write("5\n")
                reader.stdin.flush()
                assert reader.stdout.readline().split()[0] == str(item)
    finally:
        for reader in readers:
            reader.communicate()
        store.close()


def test_readers_in_threads_see_whole_transactions(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.write([columns((1, 0, 0, 1), (2, 0, 0, 1))])
    torn: list[UserBatch] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            batch = store.gather([1, 2])
            if batch.items[0].tolist() != batch.items[1].tolist():
                torn.append(batch)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for item in range(1, 200):
        store.write([columns((1, item, item, 1), (2, item, item, 1))])
    done.set()
    for thread in threads:
        thread.join()
    assert not torn
    store.close()
