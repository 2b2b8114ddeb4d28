"""What the pairs suite times is what it says."""

from predawn.bench import harness, pairs

MARK = harness.Stamp("pairs", "abc", "cpu x2")


def test_reads_writes_and_what_follows_a_reply_are_timed() -> None:
    rows = pairs.run(MARK, smoke=True, effort=harness.SMOKE)
    timed = {row.case: row for row in rows if row.metric == "time"}
    assert [case.split()[0] for case in timed][:7] == [
        *["read", "after", "after"] * 2,
        "write",
    ]
    rest = {case.split()[0] for case in list(timed)[7:]}
    assert rest == {"read", "look", "write", "neighbours", "account"}
    reads = [row for case, row in list(timed.items())[:7] if case.startswith("read")]
    assert all(row.peer == "dictionary" and row.limit for row in reads)
