"""What the cases of fills time is what they say."""

import numpy as np

from predawn.bench import pairs_fills
from predawn.bench.harness import SMOKE, Stamp, measure
from predawn.bench.pairs_fills import DIM, FillPlan
from predawn.server.pair_aggregates import FillRules
from predawn.server.request import Source

PLAN = FillPlan((6,), users=8, batch=(2, 3))


def test_reads_looks_and_writes_are_timed_against_those_without_fills() -> None:
    rows = measure(Stamp("pairs", "abc", "cpu x2"), pairs_fills.fill_cases(PLAN), SMOKE)
    timed = [row for row in rows if row.metric == "time"]
    assert [row.case.split()[0] for row in timed] == ["read", "read", "read", "look", "write"]
    assert all(row.limit for row in timed)


def test_half_of_the_candidates_are_filled_from_the_level_that_is_said() -> None:
    for rules, level in (
        (pairs_fills._MEAN, Source.USER_MEAN),
        (pairs_fills._RECENT, Source.RECENT),
        (pairs_fills._NEIGHBOUR, Source.NEIGHBOUR),
    ):
        found = pairs_fills._read(pairs_fills._store(rules, 6, 8, every=2), 6, 8)().sources
        assert np.bincount(found, minlength=len(Source))[[Source.DIRECT, level]].tolist() == [3, 3]
    all_there = pairs_fills._read(pairs_fills._store(FillRules(), 6, 8, every=1), 6, 8)()
    assert not all_there.sources.any() and all_there.rows.shape == (6, DIM)
