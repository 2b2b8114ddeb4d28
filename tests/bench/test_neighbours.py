"""What is timed of fills from neighbours fills and learns."""

import numpy as np

from predawn.bench import harness, neighbours

MARK = harness.Stamp("pairs", "abc", "cpu x2")


def test_fills_and_learning_are_timed() -> None:
    rows = harness.measure(MARK, neighbours.cases(smoke=True), harness.SMOKE)
    timed = {row.case: row for row in rows if row.metric == "time"}
    assert [case.split()[1] for case in timed] == ["fill", "fill", "learn", "learn"]
    similar = next(iter(timed.values()))
    assert similar.peer == "numpy"
    assert similar.limit


def test_what_is_timed_is_a_fill_of_every_pair() -> None:
    fills = [case for case in neighbours.cases(smoke=True) if " fill " in case.name]
    filled = [np.asarray(case.own.call()) for case in fills]
    assert filled[0].all()
    assert neighbours.SMOKE.candidates == len(filled[0])
    limit = fills[0].limit
    assert limit
    assert limit.call() == neighbours.SMOKE.candidates
