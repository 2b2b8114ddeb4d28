"""The predictor's cost is measured a shown pair, with its native part."""

from predawn.bench.harness import SMOKE, stamp
from predawn.bench.speculate_costs import rows


def test_every_part_has_its_time() -> None:
    found = rows(stamp("speculate"), smoke=True, effort=SMOKE)
    times = {row.case: row for row in found if row.metric == "time"}
    assert set(times) == {
        "predictor: asked + propose",
        "predictor: asked",
        "predictor: propose",
    }
    assert all(row.unit == "ns/shown pair" and row.value > 0 for row in times.values())
    assert times["predictor: asked + propose"].limit is not None
