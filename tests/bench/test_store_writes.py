"""Writes overwrite what is there, or insert what is not into a table that is full."""

from predawn.bench import harness, store_writes
from predawn.bench.store_tables import SMOKE

MARK = harness.Stamp("store", "abc", "cpu x2")


def test_overwrites_and_inserts_are_timed() -> None:
    rows = store_writes.puts(MARK, SMOKE, harness.SMOKE)
    assert {row.case for row in rows} == set(store_writes.names(SMOKE))
    times = [row for row in rows if row.metric == "time"]
    assert [bool(row.limit and row.ratio) for row in times] == [True, False] * 2
