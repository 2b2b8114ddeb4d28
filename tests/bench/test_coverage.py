import math

import pytest

from predawn.bench import coverage
from predawn.bench.harness import SMOKE, Effort, Row, stamp


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return coverage.run(stamp("coverage"), smoke=True, effort=SMOKE)


def test_the_smoke_run_has_a_figure_of_every_kind(rows: list[Row]) -> None:
    metrics = {row.metric for row in rows}
    assert metrics >= {
        "ranking_loss", "gain_kept", "value", "coverage_exact", "coverage_exact_worst_seed",
        "coverage_with_fills", "budget_used", "calibration_error", "brier_score", "precision",
        "recall", "gain_kept_distilled", "gain_kept_papers_rule", "coverage_last_10",
    }  # fmt: skip
    assert all(math.isfinite(row.value) for row in rows)
    covered = next(row for row in rows if row.metric == "coverage_exact")
    assert covered.limit is not None and covered.value <= covered.limit
    assert covered.peer == "ranker score"


def test_loss_falls_with_coverage(rows: list[Row]) -> None:
    loss = {row.case: row.value for row in rows if row.metric == "ranking_loss"}
    none, all_of_it = (loss[f"sweep, {c} exact, the rest default"] for c in ("0%", "100%"))
    assert all_of_it < none


def test_only_what_is_wanted_runs() -> None:
    effort = Effort(1, 0.1, only="budget 1, learned")
    found = coverage.run(stamp("coverage"), smoke=True, effort=effort)
    assert found and not any(row.case.startswith("sweep") for row in found)
