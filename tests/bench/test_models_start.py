"""A start is timed to the first answer, against the import of torch."""

from predawn.bench import harness, models_start

MARK = harness.Stamp("models", "abc", "cpu x2")


def test_a_start_is_timed() -> None:
    (row,) = models_start.rows(MARK, effort=harness.SMOKE, smoke=True)
    assert (row.case, row.unit, row.peer) == (models_start.CASE, "s", "import torch")
    assert 0 < row.value < 60


def test_an_unwanted_start_does_not_happen() -> None:
    effort = harness.Effort(1, 0.01, only="no such case")
    assert models_start.rows(MARK, effort=effort, smoke=True) == []
