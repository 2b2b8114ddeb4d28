"""Trouble with the model of pairs, small: every request is served, and is told by what."""

from pathlib import Path

from predawn.bench import harness, speculate_faults
from predawn.bench.fault_models import TROUBLES

MARK = harness.Stamp("speculate", "abc", "cpu x2")


def test_requests_are_served_whatever_becomes_of_the_model_of_pairs(tmp_path: Path) -> None:
    rows = speculate_faults.rows(MARK, tmp_path, smoke=True, effort=harness.SMOKE)
    found = {(row.case.rsplit(" ", 1)[1], row.metric): row.value for row in rows}
    for trouble in TROUBLES:
        for metric in ("served", "counts_right", "counted_per_replied"):
            assert found[trouble, metric] == 1.0
        assert found[trouble, "direct_after"] > 0
    for trouble in ("hang", "die", "fail"):
        assert found[trouble, "direct_during"] < found[trouble, "direct_before"]
    assert found["die", "restarts"] == 1
