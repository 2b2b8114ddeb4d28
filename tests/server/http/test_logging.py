"""Log lines in both formats, written by another thread, dropped and counted when too many."""

import io
import json
import logging
import queue
import random

import pytest
from aiohttp.test_utils import make_mocked_request

from predawn.server.config import LogConfig
from predawn.server.http.intake import Call
from predawn.server.http.logging import AccessLog, DroppingHandler, Logs

LOG = logging.getLogger("predawn.test")


def written(log: logging.Logger = LOG, **settings: object) -> list[str]:
    """Lines of a few records."""
    stream = io.StringIO()
    logs = Logs(LogConfig.model_validate(settings), stream)
    logs.open()
    try:
        log.debug("quiet")
        log.info("hello %s", "é", extra={"fields": {"status": 200}})
        try:
            raise ValueError("boom")
        except ValueError:
            log.exception("failed")
    finally:
        logs.close()
    return stream.getvalue().splitlines()


def test_json_lines_are_one_object_a_record() -> None:
    lines = [json.loads(line) for line in written(format="json")]
    assert [line["message"].splitlines()[0] for line in lines] == ["hello é", "failed"]
    assert (lines[0]["level"], lines[0]["logger"], lines[0]["status"]) == (
        "info",
        "predawn.test",
        200,
    )
    assert "ValueError: boom" in lines[1]["message"]


def test_text_lines_have_the_fields_at_the_end() -> None:
    lines = written(format="text")
    assert lines[0].endswith("INFO    hello é status=200")
    assert lines[-1] == "ValueError: boom"


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_written(level: str, count: int) -> None:
    assert len(written(format="json", level=level)) == count


def test_after_close_logging_is_as_it_was() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    written()
    assert (root.level, list(root.handlers)) == before


def test_records_that_find_no_room_are_dropped_and_counted() -> None:
    records: queue.Queue[logging.LogRecord] = queue.Queue(2)
    handler = DroppingHandler(records)
    for i in range(5):
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, f"line {i}", None, None))
    assert handler.dropped == 3
    assert records.get_nowait().getMessage() == "line 0"


@pytest.mark.parametrize(
    ("share", "low", "high"), [(0.0, 0, 0), (0.25, 180, 320), (1.0, 1000, 1000)]
)
def test_the_access_log_has_its_share(
    share: float, low: int, high: int, caplog: pytest.LogCaptureFixture
) -> None:
    access = AccessLog(share, random.Random(3))
    call = Call(make_mocked_request("POST", "/v1/rank"), "r1", 0)
    with caplog.at_level(logging.INFO, "predawn.access"):
        for _ in range(1000):
            access.log(call, 200, 5_000)
    assert low <= len(caplog.records) <= high
    for record in caplog.records[:1]:
        assert record.__dict__["fields"] == {
            "method": "POST",
            "path": "/v1/rank",
            "status": 200,
            "took_us": 5,
            "request_id": "r1",
        }
