"""Both placements hold the same pairs and find nearly all of them."""

from predawn.bench import harness, store_pairs
from predawn.bench.store_tables import SMOKE

MARK = harness.Stamp("store", "abc", "cpu x2")


def test_pairs_of_one_user_are_read_in_both_placements() -> None:
    rows = store_pairs.pairs(MARK, SMOKE, harness.SMOKE)
    assert {row.case for row in rows} == set(store_pairs.names(SMOKE))
    value = {row.metric: row.value for row in rows}
    assert value["found_user_major"] > 0.9 and value["found_hashed"] > 0.9
    assert [row.peer for row in rows if row.metric == "time"] == ["hashed"]
