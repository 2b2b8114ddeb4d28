"""Traffic that speculation is of no use for, small, on a real server, which says what it does."""

from pathlib import Path

from predawn.bench import harness, speculate_hostile

MARK = harness.Stamp("speculate", "abc", "cpu x2")


def test_engine_time_is_measured_and_the_server_says_why(tmp_path: Path) -> None:
    rows = speculate_hostile.rows(MARK, tmp_path, smoke=True, effort=harness.SMOKE)
    cases = {row.case for row in rows}
    assert len(cases) == 2 and all(len(case.split(": ", 1)[1]) > 10 for case in cases)
    limits = {row.case[:5]: row.limit for row in rows if row.metric == "engine_share"}
    assert limits == {"no pa": speculate_hostile.BAR, "users": None}
