"""Both placements hold the same pairs and find nearly all of them."""

from predawn.bench import harness, store_pairs
from predawn.bench.store_tables import SMOKE

MARK = harness.Stamp("store", "abc", "cpu x2")


def test_pairs_of_one_user_are_read_in_both_placements() -> None:
    rows = store_pairs.pairs(MARK, SMOKE, harness.SMOKE)
    read, full = store_pairs.names(SMOKE)
    assert {row.case for row in rows} == {read, full}
    value = {(row.case, row.metric): row.value for row in rows}
    for case, least in ((read, 0.9), (full, 0.5)):
        assert least < value[case, "found_user_major"] <= 1
        assert least < value[case, "found_hashed"] <= 1
    assert [row.peer for row in rows if row.metric == "time"] == ["hashed"]
