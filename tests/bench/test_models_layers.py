"""All layers are timed at smoke size against rivals that agree with them, and against limits."""

from predawn.bench import harness, models_layers

MARK = harness.Stamp("models", "abc", "cpu x2")


def test_every_layer_has_rivals_and_a_limit() -> None:
    rows = models_layers.rows(MARK, effort=harness.Effort(1, 0.01), smoke=True)
    timed = [row for row in rows if row.metric == "time"]
    kinds = {row.case.split()[0] for row in timed}
    assert {"first", "dense", "mean", "4"} == kinds
    assert all(row.peer and row.limit for row in timed)
    assert {row.peer for row in timed if row.case.startswith("first layer, medium")} == {
        "torch eager",
        "numpy",
    }


def test_unwanted_cases_are_not_timed() -> None:
    effort = harness.Effort(1, 0.01, only="no such case")
    assert models_layers.rows(MARK, effort=effort, smoke=True) == []
