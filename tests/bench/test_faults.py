"""A hung engine, a killed one and a killed server, small: all answered in time, no event lost."""

from predawn.bench import faults, harness

MARK = harness.Stamp("faults", "abc", "cpu x2")


def test_promises_hold_when_the_engine_hangs_or_dies_and_the_server_is_killed() -> None:
    rows = faults.run(MARK, smoke=True, effort=harness.SMOKE)
    found = {(row.case, row.metric): row.value for row in rows}
    for case in ("engine hangs for 1 s", "models' process killed"):
        assert found[case, "answered"] == 1.0 and found[case, "server_errors"] == 0
        assert found[case, "degraded"] > 0
    assert found["models' process killed", "restarts"] == 1
    case = "kill -9 under event load"
    assert found[case, "events_acknowledged"] > 0
    assert found[case, "acknowledged_found"] == found[case, "starts_again"] == 1.0
