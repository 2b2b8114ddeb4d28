"""A hung engine and a killed server, small: all answered in time, no acknowledged event lost."""

from predawn.bench import faults, harness

MARK = harness.Stamp("faults", "abc", "cpu x2")


def test_promises_hold_when_the_engine_hangs_and_the_server_is_killed() -> None:
    rows = faults.run(MARK, smoke=True, effort=harness.SMOKE)
    found = {row.metric: row.value for row in rows}
    assert found["answered"] == 1.0 and found["server_errors"] == 0
    assert found["degraded"] > 0
    assert found["events_acknowledged"] > 0
    assert found["acknowledged_found"] == found["starts_again"] == 1.0
