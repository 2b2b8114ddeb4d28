"""Both echo peers answer any path with a body of the size asked for."""

from pathlib import Path

import orjson
import pytest

from predawn.bench import echo
from predawn.bench.child import Child, free_port


@pytest.mark.parametrize("kind", echo.KINDS)
def test_echo_replies_with_the_size_asked_for(kind: str, tmp_path: Path) -> None:
    port = free_port()
    arguments = ["-m", "predawn.bench.echo", kind, str(port), "321"]
    with Child(arguments, port, tmp_path / "log") as child:
        child.wait_ready("/readyz", 20)
        status, body = child.request("POST", "/v1/rank", b'{"user":1}')
    assert status == 200 and len(body) == 321
    assert orjson.loads(body)


def test_reply_body_is_json_of_exact_size() -> None:
    assert len(echo.reply_body(50)) == 50 and orjson.loads(echo.reply_body(10))
