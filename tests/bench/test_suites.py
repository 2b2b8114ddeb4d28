"""A suite is run by name, keeps the JSON contract, and its rows say how quiet the machine was.

Each suite is run at smoke size by the test of its own file.
"""

import math

import pytest

from predawn.bench import suites
from predawn.server.errors import UnknownName


def test_rows_of_a_suite_are_finite_and_stamped() -> None:
    notes: list[str] = []
    rows = suites.run_suite("limits", smoke=True, note=notes.append)
    assert {row.suite for row in rows} == {"limits"}
    assert all(math.isfinite(row.value) and row.commit and row.device for row in rows)
    assert [row.metric for row in rows if row.case == "machine"] == ["stall_share"]
    assert len(notes) == 1


def test_a_suite_runs_the_cases_asked_for_and_says_when_it_is_done() -> None:
    shares: list[float] = []
    rows = suites.run_suite("limits", smoke=True, only="system call", progress=shares.append)
    assert {row.case for row in rows} == {"system call", "machine"} and shares[-1] == 1.0


def test_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'codec'"):
        suites.run_suite("codecs")
