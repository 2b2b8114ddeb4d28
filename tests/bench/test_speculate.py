"""The suite runs the parts that are asked for; each part is run small by the test of its file."""

from predawn.bench import suites


def test_the_suite_runs_what_is_asked_for_under_its_own_name() -> None:
    rows = suites.run_suite("speculate", smoke=True, only="users come back")
    assert {row.suite for row in rows} == {"speculate"}
    assert {row.case.split(":")[0] for row in rows} == {"users come back", "machine"}
