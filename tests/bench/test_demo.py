"""The demo from end to end, small: prepares, serves, shows, and ends in every way it can end."""

import io
import os
import signal
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from predawn.bench import demo, rig
from predawn.bench.child import Child, ChildDied
from predawn.bench.demo import Demo
from predawn.bench.prepare import SMALL

SIZE = replace(SMALL, foundation="tiny")


def _demo(seconds: float | None) -> tuple[Demo, io.StringIO]:
    out = io.StringIO()
    return Demo(Console(file=out, width=120), seconds=seconds, rate=100.0, size=SIZE), out


def test_demo_serves_and_sums_up() -> None:
    small, out = _demo(1.0)
    found = small.run()
    assert found["errors"] == 0
    assert found["requests"] == sum(found["sources"].values())
    assert 20 < found["requests"] <= 110
    assert found["inferences_saved"] == found["requests"] - found["inferences"]
    assert found["inferences"] > 0
    assert list(found["pairs"]) == ["fm"]
    pairs = found["pairs"]["fm"]
    assert pairs["asked"] == sum(pairs["sources"].values()) > found["requests"]
    assert pairs["issued"] >= sum(pairs["outcomes"].values()) >= pairs["outcomes"]["used"]
    assert pairs["issued"] > 0 and pairs["outcomes"]["failed"] == 0
    assert "pairs, exact" in out.getvalue() and "price" in out.getvalue()
    assert "/v1/rank -H '" in out.getvalue() and "Time is compressed" in out.getvalue()


def test_interrupt_ends_it_with_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    small, _ = _demo(None)
    monkeypatch.setattr(demo, "_first_request", _interrupt_soon)
    found = small.run()
    assert found["errors"] == 0 and 0 < found["requests"] < 10_000


def _interrupt_soon(child: Child, traffic: object) -> str:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    return ""


def test_a_dying_server_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill_soon(child: Child, traffic: object) -> str:
        child.log.write_text("its last word\n", encoding="utf-8")
        threading.Timer(0.3, child.kill).start()
        return ""

    small, _ = _demo(None)
    monkeypatch.setattr(demo, "_first_request", kill_soon)
    with pytest.raises(ChildDied, match=r"(?s)died under load.*its last word"):
        small.run()


def test_a_server_that_does_not_start_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> rig.Settings:
        settings = original(*arguments)  # type: ignore[arg-type]
        settings["http"]["no_such_key"] = 1
        return settings

    original = demo.settings
    monkeypatch.setattr(demo, "settings", broken)
    small, _ = _demo(1.0)
    with pytest.raises(ChildDied, match=r"no_such_key"):
        small.run()
