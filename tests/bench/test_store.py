"""What the store suite times is the same work for all subjects."""

from predawn.bench import harness, store

MARK = harness.Stamp("store", "abc", "cpu x2")


def test_reads_and_writes_are_held_against_peers_and_a_limit() -> None:
    rows = store.run(MARK, smoke=True, effort=harness.SMOKE)
    reads = [row for row in rows if row.case.startswith("get 100, ") and row.metric == "time"]
    assert {row.peer for row in reads} == {"numpy.take, positions known", "dict + numpy.take"}
    writes = [row for row in rows if row.case.startswith("put 1, ") and row.metric == "time"]
    assert len(writes) == 2  # fp16 and fp32
    assert all(row.limit and row.ratio for row in [*reads, *writes])
