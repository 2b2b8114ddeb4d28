"""The client of the command line: answers as they are, refusals and absence as sentences."""

import asyncio
import socket
import threading
from typing import Any

import pytest
from http_rig import Rig, run

from predawn.bench.child import free_port
from predawn.server.http.client import NotServed, ask


def asked(test: Any, *arguments: Any) -> None:
    """`test` gets what `ask` does at a server in this process."""

    async def main(it: Rig) -> None:
        url = f"http://127.0.0.1:{it.port}"
        test(await asyncio.to_thread(told, url, *arguments))

    run(main)


def told(*arguments: Any) -> Any:
    try:
        return ask(*arguments)
    except NotServed as error:
        return error


def test_an_answer_is_parsed() -> None:
    asked(lambda found: check(found["name"], "predawn"), "GET", "/version")
    asked(lambda found: check(found["live"], {"fresh": 5}), "POST", "/v1/models/swap", {})


def check(found: Any, wanted: Any) -> None:
    assert found == wanted


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/models/load", {"version": 0}, 400, "version: must be a version's number"),
        ("/v1/modles", {}, 404, "did you mean /v1/models?"),
    ],
)
def test_a_refusal_is_its_field_and_reason(path: str, body: Any, status: int, said: str) -> None:
    def refused(error: Any) -> None:
        assert isinstance(error, NotServed) and error.status == status
        assert said in str(error)

    asked(refused, "POST", path, body)


def test_nobody_there_and_no_address_are_said() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for address, said in ((url, "is `predawn serve` running there?"), ("x", "is no address")):
        error = told(address, "GET", "/version")
        assert isinstance(error, NotServed) and error.status == 0
        assert said in str(error)


def test_what_is_not_json_is_no_predawn() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        error = told(f"http://127.0.0.1:{listener.getsockname()[1]}", "GET", "/version")
        thread.join()
    assert isinstance(error, NotServed) and "is that a predawn server?" in str(error)
