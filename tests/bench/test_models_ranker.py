"""The whole ranker is timed against its torch twin, in candidates a second."""

from predawn.bench import harness, models_ranker

MARK = harness.Stamp("models", "abc", "cpu x2")


def test_both_sizes_have_times_rates_and_limits() -> None:
    rows = models_ranker.rows(MARK, effort=harness.Effort(1, 0.01), smoke=True)
    rates = [row for row in rows if row.metric == "candidates_a_second"]
    assert [row.case for row in rates] == [
        f"ranker, {size}, {count} candidates" for size in ("small", "medium") for count in (1, 16)
    ]
    assert all(row.peer == "torch eager" and row.limit and row.unit == "1/s" for row in rates)


def test_unwanted_cases_are_not_prepared() -> None:
    effort = harness.Effort(1, 0.01, only="no such case")
    assert models_ranker.rows(MARK, effort=effort, smoke=True) == []
