"""A store's file is made, attached again, and recovered after a kill."""

from predawn.bench import harness, store_files
from predawn.bench.store_tables import SMOKE

MARK = harness.Stamp("store", "abc", "cpu x2")


def test_creation_attach_and_recovery_are_timed() -> None:
    rows = store_files.files(MARK, SMOKE, harness.SMOKE)
    assert {row.case for row in rows} == set(store_files.names(SMOKE))
    value = {row.metric: row.value for row in rows}
    assert value["time_warm"] > 0 and value["time_after_kill"] > 0
    kept = [row.value for row in rows if row.metric == "recovered_share"]
    assert kept and kept[0] > 0.99
