"""Stores in files: created, attached to, closed; what is refused, and in which words."""

import errno
import gc
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_calls import SEED, get, keys_of, put, scanned

from predawn.csrc._core import ORIGIN_SPECULATIVE, STRING, EmbeddingCache, StoreError

NOBODY = 65_534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def new_store(path: Any, **more: Any) -> EmbeddingCache:
    shape: dict[str, Any] = {"capacity": 100, "dim": 2, "dtype": "fp32", "huge_pages": False}
    return EmbeddingCache.create(path, **shape | more)


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """The folder may only be read, and not even the superuser is asked."""
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_attach_finds_what_was_created(path: Path) -> None:
    shape: dict[str, Any] = {"dim": 5, "parts": 3, "dtype": "int8", "id_kind": STRING}
    with new_store(path, **shape, seed=SEED, placement="user_major") as store:
        created = described(store)
    with EmbeddingCache.attach(path) as store:
        assert described(store) == created
    assert created == (
        5,
        3,
        "int8",
        STRING,
        "user_major",
        SEED,
        112,
        path.stat().st_size,
        str(path),
    )


def described(store: EmbeddingCache) -> tuple[object, ...]:
    kind = store.dim, store.parts, store.dtype, store.id_kind, store.placement
    return (*kind, store.seed, store.capacity, store.bytes, store.path)


def test_entries_outlive_their_writer(path: Path) -> None:
    with new_store(path) as store:
        put(store, range(20), version=6, now_ms=100, snapshot=7, origin=ORIGIN_SPECULATIVE)
        put(store, range(10), version=8, now_ms=200, snapshot=9)
        before = scanned(store)
    with EmbeddingCache.attach(path) as store:
        assert scanned(store) == before and store.check() == []
        rows, ages, _, snapshots = get(store, range(20), now_ms=250)
        assert rows[:, 0].tolist() == list(range(20)) and rows[:, 1].tolist() == [8] * 10 + [6] * 10
        assert ages.tolist() == [50] * 10 + [150] * 10
        assert snapshots.tolist() == [9] * 10 + [7] * 10
        stats = store.stats()
        assert (stats["entries"], stats["recovered_kept"], stats["recovered_dropped"]) == (20, 0, 0)


def test_string_keys_are_the_same_after_attach(path: Path) -> None:
    with new_store(path, id_kind=STRING) as store:
        key = store.key_of_string("u42")
        keys = np.array([key], np.uint64)
        store.put_many(keys, np.ones((1, 2), np.float32), 0, 0, 0)
    with EmbeddingCache.attach(path) as store:
        assert store.key_of_string("u42") == key
        assert store.touch_many(np.array([store.key_of_string("u42")], np.uint64)) == 1


def test_what_readers_accept_and_what_counts_as_absent_is_kept(path: Path) -> None:
    with new_store(path, capacity=14) as store:
        put(store, range(14), snapshot=3)
        get(store, [0], max_age_ms=10)
        store.invalidate_before(3)
    with EmbeddingCache.attach(path) as store:
        put(store, [99], now_ms=100, snapshot=3)
        assert store.stats()["evictions_expired"] == 1
        put(store, [98], now_ms=100, snapshot=2)
        assert get(store, [98], now_ms=100).ages.tolist() == [-1]
        store.invalidate_before(0)  # never goes down
        assert get(store, [98], now_ms=100).ages.tolist() == [-1]


def test_all_who_are_attached_see_one_another(path: Path) -> None:
    with new_store(path) as first, EmbeddingCache.attach(path) as second:
        put(first, [1, 2], version=5)
        assert get(second, [1, 2]).rows.tolist() == [[1, 5], [2, 5]]
        put(second, [1], version=6)
        assert get(first, [1]).rows.tolist() == [[1, 6]]
        assert second.invalidate_many(keys_of([2])) == 1
        assert get(first, [2]).ages.tolist() == [-1]
        second.invalidate_before(1)
        assert get(first, [1]).ages.tolist() == [-1] and first.touch_many(keys_of([1])) == 0
        first.close()
        put(second, [3], snapshot=1)
        assert second.check() == []
    with EmbeddingCache.attach(path) as third:
        assert scanned(third).ids == [3] and third.stats()["recovered_kept"] == 0


@pytest.mark.parametrize(
    "call",
    [
        EmbeddingCache.stats,
        EmbeddingCache.check,
        EmbeddingCache.samples,
        EmbeddingCache.reap,
        scanned,
        lambda store: get(store, [1]),
        lambda store: put(store, [1]),
        lambda store: store.touch_many(keys_of([])),
        lambda store: store.invalidate_many(keys_of([1])),
        lambda store: store.invalidate_before(1),
        lambda store: store.key_of_string("u"),
    ],
)
@pytest.mark.parametrize("in_file", [True, False])
def test_closed_stores_refuse_every_call(
    path: Path, in_file: bool, call: Callable[[EmbeddingCache], object]
) -> None:
    store = new_store(path if in_file else None)
    store.close()
    store.close()
    with pytest.raises(StoreError, match=r"^this store is closed: attach to it, or create"):
        call(store)


def test_closed_stores_still_say_what_they_were(path: Path) -> None:
    for store in (new_store(path), new_store(None)):
        was = described(store)
        store.close()
        assert described(store) == was


def test_leaving_the_block_closes_also_after_an_error(path: Path) -> None:
    with pytest.raises(KeyError), new_store(path) as store:
        put(store, [1])
        raise KeyError
    with pytest.raises(StoreError, match="closed"):
        store.stats()
    with EmbeddingCache.attach(path) as store:
        assert store.stats()["entries"] == 1 and store.stats()["recovered_kept"] == 0


def test_a_store_that_nobody_refers_to_is_closed(path: Path) -> None:
    put(new_store(path), [1])
    gc.collect()
    with EmbeddingCache.attach(path) as store:
        assert store.stats()["entries"] == 1 and store.stats()["recovered_kept"] == 0


def test_a_taken_path_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("mine")
    link = path.with_name("link")
    link.symlink_to(path.with_name("nowhere"))
    for taken in (path, link):
        expected = f"store '{taken}': the path is taken, expected free: attach to the store there"
        with pytest.raises(StoreError, match=f"^{re.escape(expected)}, or remove the file$"):
            new_store(taken)
    assert path.read_text() == "mine" and sorted(os.listdir(path.parent)) == ["link", "store"]


def test_a_folder_in_the_way_is_an_os_error(path: Path) -> None:
    path.mkdir()
    for opened in (new_store, EmbeddingCache.attach):
        with pytest.raises(IsADirectoryError) as caught:
            opened(path)
        assert caught.value.filename == str(path)


def test_what_is_not_there_is_an_os_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"opening '.*store'") as caught:
        EmbeddingCache.attach(path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(path))
    with pytest.raises(FileNotFoundError) as caught:
        new_store(path / "store")
    assert caught.value.filename == str(path / "store")
    assert os.listdir(path.parent) == []


def test_a_store_that_does_not_fit_leaves_nothing_behind(path: Path) -> None:
    with pytest.raises((OSError, MemoryError)):
        new_store(path, capacity=2**36, dim=2**16, parts=16)
    with pytest.raises(MemoryError, match=r"bytes of memory needed.*: ask for a smaller capacity"):
        new_store(None, capacity=2**36, dim=2**16, parts=16)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    ("at", "bytes_there", "words"),
    [
        (0, b"predawn?", "the magic number is "),
        (8, b"\x63", "the format version is 99, expected 2: another version of predawn made it"),
        (44, b"\x0f", "the header's checksum is "),
        (32, b"\xff\xff", "the header's checksum is "),
    ],
)
def test_damaged_headers_are_refused_and_not_written(
    path: Path, at: int, bytes_there: bytes, words: str
) -> None:
    new_store(path).close()
    damaged = bytearray(path.read_bytes())
    damaged[at : at + len(bytes_there)] = bytes_there
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=f"^store '{path}': {words}"):
        EmbeddingCache.attach(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "the file's size is 0 bytes, expected at least"),
        (b"short", "the file's size is 5 bytes, expected at least"),
        (b"{}" * 5_000, "the magic number is .*: this is no store: give another path"),
    ],
)
def test_other_files_are_refused(path: Path, text: bytes, words: str) -> None:
    path.write_bytes(text)
    with pytest.raises(StoreError, match=f"^store '{path}': {words}"):
        EmbeddingCache.attach(path)
    assert path.read_bytes() == text


@pytest.mark.parametrize(("by", "words"), [(-1, "truncated: "), (1, "too large: ")])
def test_files_of_another_length_are_refused(path: Path, by: int, words: str) -> None:
    new_store(path).close()
    size = path.stat().st_size
    os.truncate(path, size + by)
    expected = f"the file's size is {words}{size + by} bytes, expected {size}"
    with pytest.raises(StoreError, match=f"^store '{path}': {expected}: remove the file"):
        EmbeddingCache.attach(path)


def test_what_is_no_regular_file_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(StoreError, match="the file's kind is no regular file"):
        EmbeddingCache.attach(path)


def test_a_folder_that_may_only_be_read_takes_no_store() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store"
        with as_nobody(Path(name)), pytest.raises(PermissionError) as caught:
            new_store(path)
        assert (caught.value.errno, caught.value.filename) == (errno.EACCES, str(path))
        Path(name).chmod(0o700)


def test_a_file_that_may_only_be_read_is_not_attached() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store"
        new_store(path).close()
        path.chmod(0o444)
        with as_nobody(Path(name)), pytest.raises(PermissionError) as caught:
            EmbeddingCache.attach(path)
        assert caught.value.filename == str(path)
        Path(name).chmod(0o700)


def test_a_file_in_a_folder_that_may_only_be_read_is_attached() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store"
        with new_store(path) as store:
            put(store, [1, 2])
        path.chmod(0o666)
        with as_nobody(Path(name)), EmbeddingCache.attach(path) as store:
            assert put(store, [3]) == 1 and sorted(scanned(store).ids) == [1, 2, 3]
        Path(name).chmod(0o700)


def test_files_are_for_their_owner_only(path: Path) -> None:
    new_store(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


class Named:
    def __init__(self, name: str | bytes) -> None:
        self.name = name

    def __fspath__(self) -> str | bytes:
        return self.name


def test_paths_may_be_anything_that_names_a_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    undecodable = os.fsdecode(b"st\xf6re")
    for number, name in enumerate((str(path), path, Named(str(path)), "store", undecodable)):
        with new_store(name) as store:
            put(store, [number])
            assert store.path == (os.fspath(name) if name is not path else str(path))
        with EmbeddingCache.attach(name) as store:
            assert scanned(store).ids == [number] and store.path == os.fspath(name)
        os.unlink(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("", ValueError, "path: expected a file name, got an empty one"),
        ("a\x00b", ValueError, "path: it holds a zero byte"),
        (7, TypeError, "expected str, bytes or os.PathLike object, not int"),
    ],
)
def test_what_names_no_file_is_refused(name: Any, error: type[Exception], words: str) -> None:
    for opened in (new_store, EmbeddingCache.attach):
        with pytest.raises(error, match=words):
            opened(name)


def test_attach_needs_a_path() -> None:
    with pytest.raises(ValueError, match=r"^path: expected a file name, got None"):
        EmbeddingCache.attach(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1, 65])
def test_threads_are_bounded(path: Path, threads: int) -> None:
    new_store(path).close()
    expected = f"^threads: expected 1 to 64, got {threads}"
    with pytest.raises(ValueError, match=expected):
        EmbeddingCache.attach(path, threads=threads)
    with pytest.raises(ValueError, match=expected):
        new_store(None, threads=threads)


def test_store_errors_are_runtime_errors() -> None:
    assert issubclass(StoreError, RuntimeError) and not issubclass(StoreError, OSError)
