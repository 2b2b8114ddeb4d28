"""Costs of speculation in process, small: every part is timed, and the books of a run add up."""

import pytest

from predawn.bench import harness, speculate_books
from predawn.bench.speculate_books import Spent

MARK = harness.Stamp("speculate", "abc", "cpu x2")


def test_what_nobody_hears_is_taken_off() -> None:
    silent = Spent(pairs=10, read=5_000, hear=1_000, total=10_000)
    heard = Spent(pairs=10, computed=8, read=6_000, hear=21_000, engine=3_000, total=64_000)
    rows = speculate_books._rows(MARK, "case", [silent], [heard])
    found = {row.metric: row.value for row in rows}
    assert found["read"] == pytest.approx(0.6)
    assert found["hear"] == pytest.approx(2.0)
    assert found["decide_and_write"] == pytest.approx(3.0)
    assert found["all_but_read"] == pytest.approx(5.0)
    assert found["computed_per_asked"] == pytest.approx(0.8)


def test_every_part_is_timed_for_short_lists_and_long_ones() -> None:
    rows = speculate_books.rows(MARK, smoke=True, effort=harness.SMOKE)
    assert len({row.case for row in rows}) == 4
    assert all(row.n > 0 for row in rows)
    assert all(row.value > 0 for row in rows if row.metric in ("read", "hear", "all_but_read"))
    assert {row.limit for row in rows if row.metric == "all_but_read"} == {speculate_books.BAR_US}
