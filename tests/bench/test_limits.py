"""The machine's limits come out in an order that physics demands."""

from collections.abc import Callable

import pytest

from predawn.bench import compiled, harness, limits

MARK = harness.Stamp("limits", "abc", "cpu x2")


def test_every_limit_is_measured() -> None:
    rows = limits.run(MARK, smoke=True, effort=harness.SMOKE)
    time = {row.case: row.value for row in rows if row.metric == "time"}
    assert {"memcpy", "system call", "pybind11 call"} <= set(time)
    for pages in ("huge", "small"):
        assert f"random cache line, {pages} pages" in time
        assert {f"random row of {n} B, {pages} pages" for n in (128, 256, 512, 1024)} <= set(time)
    assert {limits.lookup_name(n, 10_000) for n in (128, 256)} <= set(time)
    assert time["python call into C"] < time["loopback, two processes"]
    bandwidth = {row.case for row in rows if row.metric == "bandwidth"}
    assert {"memcpy", "random row of 256 B, numpy.take"} <= bandwidth


def test_without_a_compiler_the_native_limits_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Callable[[], None]:
        raise compiled.Missing("no C++ compiler")

    monkeypatch.setattr(compiled, "library", missing)
    rows = limits.run(MARK, smoke=True, effort=harness.SMOKE)
    assert "native loops (absent: no C++ compiler)" in {row.peer for row in rows}
    assert not any("huge pages" in row.case for row in rows)


def test_only_the_limits_asked_for_are_measured() -> None:
    rows = limits.run(
        MARK, smoke=True, effort=harness.Effort(1, 0.1, only="random row of 256 B, huge")
    )
    assert {row.case for row in rows} == {"random row of 256 B, huge pages"}
