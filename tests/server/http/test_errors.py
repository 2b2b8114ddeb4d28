"""Every error has its status, its code and its headers; a bug tells nothing but its id."""

import json
import logging

import pytest
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from predawn.csrc._codec import CodecError
from predawn.server.errors import (
    BadRequest,
    BodyTooLarge,
    Conflict,
    DeadlineExceeded,
    InferenceError,
    LoadFailed,
    Overloaded,
    Unavailable,
    UnknownName,
)
from predawn.server.http.errors import (
    Fault,
    Refused,
    answer,
    fault_of,
    no_such_path,
    wrong_method,
)

CASES: list[tuple[Exception, Fault]] = [
    (CodecError("user", "is missing"), Fault(400, "bad_request", "is missing", "user")),
    (BadRequest("x", "no"), Fault(400, "bad_request", "no", "x")),
    (Conflict("", "busy"), Fault(409, "conflict", "busy")),
    (BodyTooLarge("", "long"), Fault(413, "body_too_large", "long")),
    (LoadFailed("models.m", "torn"), Fault(422, "load_failed", "torn", "models.m")),
    (
        UnknownName("ranker", "wach", ["watch"]),
        Fault(404, "unknown_name", "unknown name 'wach'; did you mean 'watch'?", "ranker"),
    ),
    (Overloaded("full", 0.3), Fault(429, "overloaded", "full", "", {"retry-after": "1"})),
    (Overloaded("full", 2.1), Fault(429, "overloaded", "full", "", {"retry-after": "3"})),
    (Unavailable("drain"), Fault(503, "unavailable", "drain", "", {"retry-after": "5"})),
    (DeadlineExceeded("late"), Fault(504, "deadline_exceeded", "late")),
    (DeadlineExceeded(), Fault(504, "deadline_exceeded", "the deadline passed")),
    (InferenceError("m", "boom"), Fault(500, "inference_failed", "model 'm': boom")),
    (Refused(415, "no"), Fault(415, "unsupported_media_type", "no", "", {})),
]


@pytest.mark.parametrize(("error", "fault"), CASES)
def test_each_error_has_its_line_in_the_table(error: Exception, fault: Fault) -> None:
    assert fault_of(error, 4.2) == fault


@pytest.mark.parametrize("error", [web.RequestPayloadError(), ContentEncodingError("gzip")])
def test_bodies_that_cannot_be_read_are_400(error: Exception) -> None:
    assert fault_of(error, 1.0).status == 400


def test_a_body_that_aiohttp_finds_too_large_is_413() -> None:
    assert fault_of(web.HTTPRequestEntityTooLarge(10), 1.0).code == "body_too_large"


def test_a_bug_is_logged_with_its_traceback_and_told_without(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = answer(KeyError("secret"), "r7", 1.0)
    assert isinstance(response.body, bytes)
    error = json.loads(response.body)["error"]
    assert (response.status, error["code"], error["request_id"]) == (500, "internal", "r7")
    assert b"secret" not in response.body
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "r7" in record.getMessage()
    assert record.exc_info is not None


def test_a_failed_model_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    answer(InferenceError("ctr", "boom"), "r8", 1.0)
    assert [r.getMessage() for r in caplog.records] == ["request r8 failed: model 'ctr': boom"]


def test_the_callers_own_mistakes_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    answer(BadRequest("x", "no"), "r", 1.0)
    answer(Overloaded("full", 1.0), "r", 1.0)
    assert not caplog.records


def test_text_that_is_no_unicode_is_told_escaped() -> None:
    response = answer(no_such_path("/\ud800", ["/a"]), "r", 1.0)
    assert isinstance(response.body, bytes)
    assert "\\ud800" in json.loads(response.body)["error"]["reason"]


def test_a_path_far_from_all_others_lists_them() -> None:
    assert no_such_path("/xyzzy", ["/b", "/a"]).reason == "no path '/xyzzy'; known: /a, /b"
    assert len(no_such_path("/" + "v1/rank" * 500, ["/v1/rank"]).reason) < 200


def test_a_wrong_method_names_those_allowed() -> None:
    error = wrong_method("PUT", "/livez", ("GET", "HEAD"))
    assert (error.status, error.headers) == (405, {"allow": "GET, HEAD"})
    assert error.reason == "/livez does not take PUT; it takes GET, HEAD"
