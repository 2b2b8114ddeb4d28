"""The log's files: whole or not there, whatever ends the server; bounded on disk."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from served_log_cases import asked, layout, write_on

from predawn.server.served_log_columns import Seen
from predawn.server.served_log_files import ServedLogFiles
from predawn.server.served_log_read import read_served, served_log

SEEN = [Seen(number, 7, *each) for number, each in enumerate(asked(20))]  # as `write_on`


def files_of(directory: Path, size_limit: int = 10**9) -> ServedLogFiles:
    return ServedLogFiles(directory, layout(), size_limit)


def test_a_file_a_write_in_the_order_of_time_also_within_a_millisecond(tmp_path: Path) -> None:
    files = files_of(tmp_path / "made")
    for first in range(3):
        left = files.write(SEEN[first : first + 1], now_ms=1_700_000_000_000)
    found = served_log(tmp_path / "made")
    rows = read_served(found, "ctr", lambda share: None)
    assert rows.t_ms.tolist() == [0, 1, 2] and left.files == len(found) == 3
    assert left.bytes == sum(file.path.stat().st_size for file in found) == files.left().bytes


def test_the_oldest_files_go_and_are_counted(tmp_path: Path) -> None:
    size = files_of(tmp_path / "one").write(SEEN, 1).bytes
    files = files_of(tmp_path / "many", size_limit=3 * size)
    removed = 0
    for number in range(10):
        left = files.write(SEEN, 1_000 + number)
        removed += left.removed
        assert left.bytes <= 3 * size
    assert (left.files, removed) == (3, 7)
    names = [file.path.name[:20] for file in served_log(tmp_path / "many")]
    assert names == [f"served-{1_007 + number:013d}" for number in range(3)]


def test_a_file_larger_than_the_limit_goes_itself(tmp_path: Path) -> None:
    left = files_of(tmp_path, size_limit=100).write(SEEN, 1)
    assert (left.files, left.bytes, left.removed) == (0, 0, 1)


def test_what_a_killed_server_left_counts_and_goes_with_the_oldest(tmp_path: Path) -> None:
    torn = tmp_path / "served-0000000000001-99.parquet.partial"
    torn.write_bytes(bytes(5_000))
    (tmp_path / "notes.txt").write_bytes(bytes(50_000))
    size = files_of(tmp_path).write(SEEN, 2).bytes - 5_000
    left = files_of(tmp_path, size_limit=2 * size).write(SEEN, 3)
    assert (left.files, left.removed) == (2, 1) and not torn.exists()
    assert (tmp_path / "notes.txt").exists()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(table: object, where: Path, **options: object) -> None:
        where.write_bytes(b"PAR1 and then")
        raise OSError(28, "No space left on device")

    files = files_of(tmp_path)
    files.write(SEEN[:3], 1)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr("pyarrow.parquet.write_table", half)
        files.write(SEEN[3:], 2)
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
    assert files.write(SEEN[3:], 3).files == 2


def test_a_kill_in_the_middle_leaves_whole_files(tmp_path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=write_on, args=(tmp_path,))
    child.start()
    assert child.pid is not None
    while len(list(tmp_path.glob("*.parquet"))) < 3:
        child.join(0.01)
        assert child.exitcode is None
    os.kill(child.pid, signal.SIGKILL)
    child.join(30)
    found = served_log(tmp_path)
    assert len(read_served(found, "ctr", lambda share: None)) == len(found) * len(SEEN)
