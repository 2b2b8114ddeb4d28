"""The suite runs the sections that have a wanted case, and no two sections share a case."""

import pytest

from predawn.bench import harness, store
from predawn.bench.harness import Effort, Row, Stamp
from predawn.bench.store_tables import FULL, SMOKE, Plan

MARK = Stamp("store", "abc", "cpu x2")


def test_cases_have_names_of_their_own_in_both_sizes() -> None:
    for plan in (FULL, SMOKE):
        names = [name for of_section, _ in store._SECTIONS for name in of_section(plan)]
        assert len(names) == len(set(names)) > 20


def test_sections_without_a_wanted_case_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def section(name: str) -> tuple[store.Names, store.Section]:
        def run(mark: Stamp, plan: Plan, effort: Effort) -> list[Row]:
            ran.append(name)
            return [mark.row(name, "time", plan.entries, "ns")]

        return (lambda plan: [name]), run

    monkeypatch.setattr(store, "_SECTIONS", tuple(map(section, ("get 1", "put 1", "get 2"))))
    shares: list[float] = []
    effort = harness.Effort(1, 0.1, only="get", progress=shares.append)
    rows = store.run(MARK, smoke=True, effort=effort)
    assert ran == ["get 1", "get 2"] and shares == [0.0, 0.5]
    assert {row.value for row in rows} == {SMOKE.entries}
