"""The served-feature log: which requests, bounded in memory, and never in a request's way."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from served_log_cases import asked, limits, log_of, with_log

from predawn.server.clock import SystemClock
from predawn.server.metrics import Metrics, ServedLogCounts
from predawn.server.request import RankReply, RankRequest
from predawn.server.served_log import LoggedRanking, ServedLog, held_bytes
from predawn.server.served_log_read import read_served, served_log

ASKED = asked(40)


def logged(directory: Path) -> list[object]:
    return list(read_served(served_log(directory), "ctr", lambda share: None).users)


def test_nothing_is_logged_of_a_share_of_0_and_everything_of_1(tmp_path: Path) -> None:
    assert log_of(tmp_path / "none", ASKED, limits(share=0)).served_log.rows["written"] == 0
    assert log_of(tmp_path / "all", ASKED, limits(share=1)).served_log.rows["written"] == 40
    assert not (tmp_path / "none").exists()


def test_a_share_is_that_share_and_the_same_requests_every_time(tmp_path: Path) -> None:
    request, reply = ASKED[0]
    few = limits(share=0.1, rows_per_file=10**6)

    async def use(log: ServedLog, metrics: Metrics) -> None:
        for number in range(20_000):
            log.seen(replace(request, request_id=f"a1b2c3d4-{number}"), reply)

    counts = [with_log(tmp_path / name, use, few).served_log.rows for name in ("a", "b")]
    assert counts[0] == counts[1]
    assert 1_850 < counts[0]["written"] < 2_150  # 3.5 standard deviations
    ids = [served_log(tmp_path / name)[0].rows for name in ("a", "b")]
    assert ids == [counts[0]["written"]] * 2


def test_rows_are_written_when_a_file_is_full_and_after_the_delay(tmp_path: Path) -> None:
    async def use(log: ServedLog, metrics: Metrics) -> None:
        for request, reply in ASKED[:10]:
            log.seen(request, reply)
        await _until(metrics.served_log, "written", 8)
        assert metrics.served_log.files == 1
        await _until(metrics.served_log, "written", 10)

    with_log(tmp_path, use, limits(rows_per_file=8, flush_delay_ms=30))
    assert [file.rows for file in served_log(tmp_path)] == [8, 2]


def test_what_is_left_at_the_end_is_written(tmp_path: Path) -> None:
    log_of(tmp_path, ASKED[:19], limits(rows_per_file=8))
    assert [file.rows for file in served_log(tmp_path)] == [8, 8, 3]
    assert logged(tmp_path) == [request.user for request, _ in ASKED[:19]]


def test_a_full_buffer_drops_rows_and_counts_them(tmp_path: Path) -> None:
    room = sum(held_bytes(*each) for each in ASKED[:5])
    counts = log_of(tmp_path, ASKED, limits(buffer_limit=room)).served_log.rows
    assert counts["written"] >= 5 and counts["dropped"] > 0
    assert counts["written"] + counts["dropped"] == 40
    assert logged(tmp_path)[:5] == [request.user for request, _ in ASKED[:5]]


def test_the_buffer_has_room_again_once_its_rows_are_written(tmp_path: Path) -> None:
    room = limits(buffer_limit=max(held_bytes(*each) for each in ASKED), rows_per_file=1)

    async def use(log: ServedLog, metrics: Metrics) -> None:
        for number, (request, reply) in enumerate(ASKED[:6], 1):
            log.seen(request, reply)
            await _until(metrics.served_log, "written", number)

    assert with_log(tmp_path, use, room).served_log.rows["dropped"] == 0


def test_a_row_of_a_batch_counts_as_the_batch_that_it_keeps() -> None:
    request, reply = ASKED[0]
    alone = held_bytes(request, reply)
    row = reply.users["sum"].row
    whole = np.zeros((100, len(row)), np.float32)
    reply.users["sum"].row = whole[3]
    assert held_bytes(request, reply) > alone + whole.nbytes - 10 * row.nbytes
    reply.users["sum"].row = row


def test_the_reply_is_the_ranking_s_own_and_its_arrays_are_not_copied(tmp_path: Path) -> None:
    request, reply = ASKED[0]
    after: list[RankReply] = []

    class Answers:
        async def rank(self, request: RankRequest) -> RankReply:
            return reply

        def after_reply(self, request: RankRequest, reply: RankReply) -> None:
            after.append(reply)

    async def use(log: ServedLog, metrics: Metrics) -> None:
        ranking = LoggedRanking(Answers(), log)
        assert await ranking.rank(request) is reply
        ranking.after_reply(request, reply)
        assert after == [reply] and log._buffer[0][0].reply is reply

    assert with_log(tmp_path, use).served_log.rows["written"] == 1


class _Watch(SystemClock):
    """A clock that is set."""

    ns = 0

    def monotonic_ns(self) -> int:
        return self.ns


def test_files_that_cannot_be_written_are_counted_and_said_once_in_10_s(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = _Watch()
    place = tmp_path / "log"

    async def use(log: ServedLog, metrics: Metrics) -> None:
        for number, (request, reply) in enumerate(ASKED[:6]):
            clock.ns = number * 4_000_000_000
            if number == 0:
                place.write_text("a file where the directory was")
            log.seen(request, reply)
            await _until(metrics.served_log, "failed", number + 1)
        place.unlink()
        log.seen(*ASKED[7])
        await _until(metrics.served_log, "written", 1)

    with caplog.at_level(logging.WARNING):
        counts = with_log(place, use, limits(rows_per_file=1), clock=clock).served_log
    assert counts.rows == {"written": 1, "dropped": 0, "failed": 6}
    assert len(caplog.records) == 2 and "its rows are lost" in caplog.text  # at 0 s and at 12 s
    assert logged(place) == [ASKED[7][0].user]


def test_a_full_disk_is_as_a_path_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    counts = log_of(tmp_path, ASKED).served_log
    assert counts.rows == {"written": 0, "dropped": 0, "failed": 40} and counts.files == 0
    assert not list(tmp_path.iterdir())


async def _until(counts: ServedLogCounts, outcome: str, rows: int) -> None:
    """Until so many rows ended so."""
    changed = asyncio.Event()
    counts.rows = _Watched(counts.rows, changed)
    async with asyncio.timeout(10):
        while counts.rows[outcome] < rows:
            await changed.wait()
            changed.clear()


class _Watched(dict[str, int]):
    def __init__(self, counts: dict[str, int], changed: asyncio.Event) -> None:
        super().__init__(counts)
        self._changed = changed

    def __setitem__(self, outcome: str, rows: int) -> None:
        super().__setitem__(outcome, rows)
        self._changed.set()
