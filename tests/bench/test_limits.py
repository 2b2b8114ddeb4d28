"""The machine's limits come out in an order that physics demands."""

from predawn.bench import harness, limits

MARK = harness.Stamp("limits", "abc", "cpu x2")


def test_every_limit_is_measured() -> None:
    rows = limits.run(MARK, smoke=True, effort=harness.SMOKE)
    time = {row.case: row.value for row in rows if row.metric == "time"}
    assert {"memcpy", "random cache line", "system call", "pybind11 call"} <= set(time)
    assert time["python call into C"] < time["loopback, two processes"]
    bandwidth = {row.case for row in rows if row.metric == "bandwidth"}
    assert {"memcpy", "random row of 256 B"} <= bandwidth
