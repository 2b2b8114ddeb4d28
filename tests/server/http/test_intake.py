"""Ids, bodies and deadlines of requests, as parts; test_app and test_rank have them as a whole."""

import asyncio
import re

import pytest
from aiohttp.test_utils import make_mocked_request

from predawn.server.config import HttpConfig
from predawn.server.errors import BadRequest
from predawn.server.http.errors import Refused
from predawn.server.http.intake import RequestIds, read_body, timeout_ns

HTTP = HttpConfig(timeout=50, timeout_limit=1_000, body_limit=100)  # pyright: ignore


@pytest.mark.parametrize("given", ["a", "A-z_0.9:/+=@", "x" * 128])
def test_a_sane_id_is_kept(given: str) -> None:
    request = make_mocked_request("GET", "/", headers={"x-request-id": given})
    assert RequestIds("p").of(request) == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", 'a"', "a\tb"])
def test_another_id_is_replaced(given: str) -> None:
    request = make_mocked_request("GET", "/", headers={"x-request-id": given})
    assert RequestIds("p").of(request) == "p-1"


def test_made_ids_differ() -> None:
    ids = RequestIds("p")
    made = [ids.of(make_mocked_request("GET", "/")) for _ in range(50)]
    assert len(set(made)) == 50
    assert all(re.fullmatch(r"p-[0-9a-f]+", each) for each in made)


def test_a_stated_length_over_the_limit_is_refused_before_reading() -> None:
    request = make_mocked_request("POST", "/", headers={"content-length": "101"})
    with pytest.raises(Refused, match="101 bytes; at most 100") as refused:
        asyncio.run(read_body(request, HTTP))
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("body_ms", "header", "expected_ms"),
    [(0.0, None, 50), (70.0, None, 70), (0.0, "80", 80), (70.0, "80", 70), (90.0, " 80 ", 80),
     (1000.0, None, 1000), (0.25, None, 0.25)],
)  # fmt: skip
def test_the_shorter_timeout_counts(body_ms: float, header: str | None, expected_ms: float) -> None:
    headers = {} if header is None else {"x-request-timeout-ms": header}
    request = make_mocked_request("POST", "/", headers=headers)
    assert timeout_ns(request, body_ms, HTTP) == expected_ms * 1_000_000


@pytest.mark.parametrize(
    ("body_ms", "header", "field"),
    [(1000.5, None, "timeout_ms"), (70.0, "soon", "x-request-timeout-ms"),
     (70.0, "-5", "x-request-timeout-ms"), (70.0, "2000", "x-request-timeout-ms")],
)  # fmt: skip
def test_a_bad_timeout_is_named_even_beside_a_good_one(
    body_ms: float, header: str | None, field: str
) -> None:
    headers = {} if header is None else {"x-request-timeout-ms": header}
    request = make_mocked_request("POST", "/", headers=headers)
    with pytest.raises(BadRequest) as refused:
        timeout_ns(request, body_ms, HTTP)
    assert refused.value.field == field
